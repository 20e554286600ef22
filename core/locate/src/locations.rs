//! All that is known of where addresses are.

use std::net::IpAddr;

use maxminddb::Reader;
use outlast_model::RegionName;
use serde::Deserialize;

use crate::{Coordinates, FileError, file, prefixes::Prefixes};

/// Why a MaxMind database is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It is none, or broken.
    #[error("this is no MaxMind database: {0}")]
    Broken(#[from] maxminddb::MaxMindDbError),
    /// Nothing says where the regions are.
    #[error(
        "no region has coordinates: write 'REGION LATITUDE LONGITUDE' lines into the file of locations"
    )]
    NoCoordinates,
}

/// What is read of an entry; the databases of cities and those of countries both have it.
#[derive(Deserialize)]
struct Entry<'a> {
    location: Option<Place>,
    #[serde(borrow)]
    continent: Option<Continent<'a>>,
}

#[derive(Deserialize)]
struct Place {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

#[derive(Deserialize)]
struct Continent<'a> {
    code: Option<&'a str>,
}

/// Which region addresses are near.
#[derive(Debug, Default)]
pub struct Locations {
    regions: Vec<RegionName>,
    prefixes: Prefixes,
    places: Vec<(usize, Coordinates)>,
    database: Option<Reader<Vec<u8>>>,
}

impl Locations {
    /// What a file of locations says about `regions`: lines `NETWORK REGION`, and `REGION LATITUDE LONGITUDE` for use with a
    /// database; `#` begins a comment.
    ///
    /// # Errors
    /// See [`FileError`]; the first mistake counts.
    pub fn parse(text: &str, regions: &[RegionName]) -> Result<Locations, FileError> {
        let (prefixes, places) = file::parse(text, regions)?;
        Ok(Locations { regions: regions.to_vec(), prefixes, places, database: None })
    }

    /// The same with a MaxMind database (format 2.0, of cities or countries) for addresses that no prefix has.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn with_database(self, bytes: Vec<u8>) -> Result<Locations, DatabaseError> {
        if self.places.is_empty() {
            return Err(DatabaseError::NoCoordinates);
        }
        let database = Some(Reader::from_source(bytes)?);
        Ok(Locations { database, ..self })
    }

    /// Whether nothing at all is known.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.database.is_none()
    }

    /// The region that `address` is near, if anybody knows.
    pub fn region(&self, address: IpAddr) -> Option<&RegionName> {
        let address = address.to_canonical();
        let found = self.prefixes.region(address).or_else(|| self.by_database(address))?;
        self.regions.get(found)
    }

    fn by_database(&self, address: IpAddr) -> Option<usize> {
        let found = self.database.as_ref()?.lookup(address).ok()?;
        // A broken entry is as good as none.
        let Entry { location, continent } = found.decode().ok()??;
        let exact = location.and_then(|it| Coordinates::new(it.latitude?, it.longitude?));
        let rough = || continent.and_then(|it| Coordinates::of_continent(it.code?));
        let there = exact.or_else(rough)?;
        let far = |place: Coordinates| place.distance(there);
        let nearest = self.places.iter().min_by(|(_, a), (_, b)| far(*a).total_cmp(&far(*b)));
        nearest.map(|(region, _)| *region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
        # offices
        198.51.100.0/24  us
        2001:db8:1::/48  ap    # the one by the sea
        eu   50.1    8.7
        us   38.9  -77.4
        ap    1.3  103.8
    ";

    fn regions() -> Vec<RegionName> {
        ["ap", "eu", "us"].map(RegionName::from).to_vec()
    }

    fn region<'a>(locations: &'a Locations, address: &str) -> Option<&'a str> {
        locations.region(address.parse().unwrap()).map(RegionName::as_str)
    }

    #[test]
    fn a_prefix_says_where_an_address_is() {
        let locations = Locations::parse(FILE, &regions()).unwrap();
        assert_eq!(region(&locations, "198.51.100.7"), Some("us"));
        assert_eq!(region(&locations, "::ffff:198.51.100.7"), Some("us"), "mapped");
        assert_eq!(region(&locations, "2001:db8:1:2::3"), Some("ap"));
        assert_eq!(region(&locations, "192.0.2.1"), None);
        assert!(!locations.is_empty());
        assert!(Locations::default().is_empty());
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let wrong = |text: &str| Locations::parse(text, &regions()).unwrap_err();
        assert_eq!(wrong("eu"), FileError::Line(1));
        assert_eq!(wrong("\neu north west"), FileError::Line(2));
        assert_eq!(wrong("10.0.0.0/33 eu"), FileError::Network(1, "10.0.0.0/33".into()));
        assert_eq!(wrong("10.0.0.1 eu"), FileError::Network(1, "10.0.0.1".into()));
        assert_eq!(wrong("10.0.0.0/8 mars"), FileError::Region(1, "mars".into()));
        assert_eq!(wrong("eu 91 0"), FileError::Coordinates(1));
        let twice = wrong("10.0.0.0/8 eu\n10.0.0.1/8 us");
        assert_eq!(twice, FileError::Twice(2, "10.0.0.0/8".parse().unwrap()));
    }

    #[test]
    fn a_database_needs_to_know_where_the_regions_are() {
        let without = Locations::parse("10.0.0.0/8 eu", &regions()).unwrap();
        assert!(matches!(without.with_database(Vec::new()), Err(DatabaseError::NoCoordinates)));
        let with = Locations::parse(FILE, &regions()).unwrap();
        let broken = with.with_database(b"not a database".to_vec());
        assert!(matches!(broken, Err(DatabaseError::Broken(_))));
    }
}
