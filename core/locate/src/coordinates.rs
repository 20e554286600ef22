//! Places on the globe.

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinates {
    /// North of the equator; -90 to 90.
    pub latitude: f64,
    /// East of Greenwich; -180 to 180.
    pub longitude: f64,
}

impl Coordinates {
    /// `None` when one of them is out of bounds or no number.
    pub fn new(latitude: f64, longitude: f64) -> Option<Coordinates> {
        let fits = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        fits.then_some(Coordinates { latitude, longitude })
    }

    /// Part of the globe's circumference on the shortest way to `other`, in radians: 0 to pi (haversine formula).
    pub fn distance(self, other: Coordinates) -> f64 {
        let [from, to] = [self, other].map(|it| it.latitude.to_radians());
        let east = (other.longitude - self.longitude).to_radians();
        let half = |angle: f64| (angle / 2.0).sin().powi(2);
        let chord = half(to - from) + from.cos() * to.cos() * half(east);
        2.0 * chord.clamp(0.0, 1.0).sqrt().asin()
    }

    /// Where most people of a continent live, roughly, by its code in MaxMind's databases: for entries that say no more.
    pub fn of_continent(code: &str) -> Option<Coordinates> {
        let (latitude, longitude) = match code {
            "AF" => (4.0, 20.0),
            "AN" => (-75.0, 0.0),
            "AS" => (25.0, 100.0),
            "EU" => (50.0, 12.0),
            "NA" => (39.0, -92.0),
            "OC" => (-30.0, 148.0),
            "SA" => (-18.0, -52.0),
            _ => return None,
        };
        Some(Coordinates { latitude, longitude })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(latitude: f64, longitude: f64) -> Coordinates {
        Coordinates::new(latitude, longitude).unwrap()
    }

    #[test]
    fn distances_are_those_of_the_globe() {
        let (frankfurt, virginia) = (at(50.1, 8.7), at(38.9, -77.4));
        let kilometres = frankfurt.distance(virginia) * 6_371.0;
        assert!((6_500.0..6_600.0).contains(&kilometres), "{kilometres}");
        // Over the date line.
        assert!(at(0.0, 179.0).distance(at(0.0, -179.0)) < 0.04);
        assert!((at(90.0, 0.0).distance(at(-90.0, 77.0)) - std::f64::consts::PI).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_on_the_globe_is_no_place() {
        for (latitude, longitude) in [(91.0, 0.0), (0.0, -181.0), (f64::NAN, 0.0)] {
            assert_eq!(Coordinates::new(latitude, longitude), None);
        }
    }

    proptest! {
        #[test]
        fn it_is_as_far_back(
            a in (-90.0..90.0_f64, -180.0..180.0_f64),
            b in (-90.0..90.0_f64, -180.0..180.0_f64),
        ) {
            let (a, b) = (at(a.0, a.1), at(b.0, b.1));
            let there = a.distance(b);
            prop_assert!((0.0..=std::f64::consts::PI).contains(&there));
            prop_assert!((there - b.distance(a)).abs() < 1e-9);
        }
    }
}
