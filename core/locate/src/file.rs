//! The operator's file: a network and its region, or a region and its coordinates, a line.

use ipnet::IpNet;
use outlast_model::RegionName;

use crate::{Coordinates, prefixes::Prefixes};

/// Most lines of a file.
pub const LINES_MAX: usize = 1_000_000;

/// What is wrong with a file of locations, with the number of the line, from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Neither kind of line.
    #[error("line {0} is neither 'NETWORK REGION' nor 'REGION LATITUDE LONGITUDE'")]
    Line(usize),
    /// Not a network in CIDR notation, or with an impossible length.
    #[error("line {0}: {1:?} is no network such as 192.0.2.0/24 or 2001:db8::/32")]
    Network(usize, String),
    /// A region that is not configured.
    #[error("line {0}: region {1:?} is not among the configured ones")]
    Region(usize, String),
    /// A network that an earlier line has given a region.
    #[error("line {0}: {1} stands in an earlier line, too")]
    Twice(usize, IpNet),
    /// Numbers out of bounds.
    #[error("line {0}: a latitude is -90 to 90 and a longitude -180 to 180, in degrees")]
    Coordinates(usize),
    /// Too long.
    #[error("the file has more than {LINES_MAX} lines")]
    Long,
}

/// What a file says. Regions are given by their index in `regions`.
pub(crate) fn parse(
    text: &str,
    regions: &[RegionName],
) -> Result<(Prefixes, Vec<(usize, Coordinates)>), FileError> {
    let (mut prefixes, mut places) = (Prefixes::default(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        if number > LINES_MAX {
            return Err(FileError::Long);
        }
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let region = |name: &str| {
            let found = regions.iter().position(|region| region.as_str() == name);
            found.ok_or_else(|| FileError::Region(number, name.to_owned()))
        };
        match words[..] {
            [] => {}
            [network, name] => {
                let parsed = network.parse::<IpNet>();
                let network = parsed.map_err(|_| FileError::Network(number, network.to_owned()))?;
                if !prefixes.insert(network, region(name)?) {
                    return Err(FileError::Twice(number, network.trunc()));
                }
            }
            [name, latitude, longitude] => {
                let parsed = (latitude.parse(), longitude.parse());
                let (Ok(latitude), Ok(longitude)) = parsed else {
                    return Err(FileError::Line(number));
                };
                let place = Coordinates::new(latitude, longitude);
                places.push((region(name)?, place.ok_or(FileError::Coordinates(number))?));
            }
            _ => return Err(FileError::Line(number)),
        }
    }
    Ok((prefixes, places))
}
