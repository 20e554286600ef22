//! Where things are, and how long light takes between them: great circles, at two thirds of its speed, over cables that
//! are never straight.

use std::time::Duration;

/// A place where regions and people are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct City {
    pub(crate) name: &'static str,
    latitude: f64,
    longitude: f64,
}

/// All of them; a world takes its regions from here.
pub(crate) const CITIES: [City; 8] = [
    City { name: "frankfurt", latitude: 50.1, longitude: 8.7 },
    City { name: "virginia", latitude: 39.0, longitude: -77.5 },
    City { name: "tokyo", latitude: 35.7, longitude: 139.7 },
    City { name: "dublin", latitude: 53.3, longitude: -6.3 },
    City { name: "oregon", latitude: 45.8, longitude: -119.7 },
    City { name: "singapore", latitude: 1.3, longitude: 103.8 },
    City { name: "saopaulo", latitude: -23.5, longitude: -46.6 },
    City { name: "mumbai", latitude: 19.1, longitude: 72.9 },
];

/// The city called `name`.
pub(crate) fn city(name: &str) -> Option<City> {
    CITIES.into_iter().find(|city| city.name == name)
}

const EARTH_RADIUS_KM: f64 = 6_371.0;
/// Light in glass.
const KM_PER_MS: f64 = 200.0;
/// Cables are longer than great circles.
const DETOUR: f64 = 1.4;
/// Routers and switches at both ends.
const ENDS: Duration = Duration::from_micros(600);

/// One way from `a` to `b`, without queues.
pub(crate) fn one_way(a: City, b: City) -> Duration {
    let (lat_a, lat_b) = (a.latitude.to_radians(), b.latitude.to_radians());
    let half_lat = (lat_b - lat_a) / 2.0;
    let half_lon = (b.longitude - a.longitude).to_radians() / 2.0;
    let chord = half_lat.sin().powi(2) + lat_a.cos() * lat_b.cos() * half_lon.sin().powi(2);
    let km = 2.0 * EARTH_RADIUS_KM * chord.sqrt().asin();
    ENDS + Duration::from_secs_f64(km * DETOUR / KM_PER_MS / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_near_those_that_are_measured() {
        let round_trip = |a: &str, b: &str| {
            2 * one_way(city(a).expect("known"), city(b).expect("known")).as_millis()
        };
        assert!((80..=100).contains(&round_trip("frankfurt", "virginia")));
        assert!((130..=170).contains(&round_trip("virginia", "tokyo")));
        assert!(round_trip("tokyo", "tokyo") <= 2);
    }
}
