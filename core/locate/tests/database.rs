//! A MaxMind database, made here by the format's specification (MaxMind DB 2.0), and what is found in it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use ipnet::Ipv4Net;
use outlast_locate::{DatabaseError, Locations};
use outlast_model::RegionName;

/// A value of the data section.
enum Value<'a> {
    Text(&'a str),
    Double(f64),
    /// With its type: 5 for 16 bits, 6 for 32, 9 for 64.
    Number(u8, u64),
    Map(Vec<(&'a str, Value<'a>)>),
    List(Vec<Value<'a>>),
}

fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let size = u8::try_from(size).unwrap();
    assert!(size < 29, "longer ones have their length elsewhere");
    match kind {
        1..=7 => out.push(kind << 5 | size),
        _ => out.extend([size, kind - 7]),
    }
}

impl Value<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Text(text) => {
                control(2, text.len(), out);
                out.extend(text.as_bytes());
            }
            Value::Double(number) => {
                control(3, 8, out);
                out.extend(number.to_be_bytes());
            }
            Value::Number(kind, number) => {
                let bytes = number.to_be_bytes();
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                control(*kind, 8 - zeros, out);
                out.extend(&bytes[zeros..]);
            }
            Value::Map(entries) => {
                control(7, entries.len(), out);
                for (key, value) in entries {
                    Value::Text(key).write(out);
                    value.write(out);
                }
            }
            Value::List(values) => {
                control(11, values.len(), out);
                values.iter().for_each(|value| value.write(out));
            }
        }
    }
}

/// A record of a node: another node, an entry's place in the data section, or nothing.
#[derive(Clone, Copy)]
enum Points {
    Node(usize),
    Data(usize),
    Nowhere,
}

/// A database of IPv4 networks.
fn database(entries: &[(&str, Value<'_>)]) -> Vec<u8> {
    let (mut nodes, mut data) = (vec![[Points::Nowhere; 2]], Vec::new());
    for (network, value) in entries {
        let (network, offset) = (network.parse::<Ipv4Net>().unwrap(), data.len());
        value.write(&mut data);
        let bits = network.addr().to_bits();
        let mut at = 0;
        for depth in 0..network.prefix_len() {
            let side = usize::from(bits >> (31 - depth) & 1 == 1);
            if depth + 1 == network.prefix_len() {
                nodes[at][side] = Points::Data(offset);
                break;
            }
            at = match nodes[at][side] {
                Points::Node(next) => next,
                _ => {
                    nodes.push([Points::Nowhere; 2]);
                    let next = nodes.len() - 1;
                    nodes[at][side] = Points::Node(next);
                    next
                }
            };
        }
    }
    let mut bytes = Vec::new();
    for record in nodes.iter().flatten() {
        let number = match record {
            Points::Node(node) => *node,
            Points::Nowhere => nodes.len(),
            Points::Data(offset) => nodes.len() + 16 + offset,
        };
        bytes.extend(&u32::try_from(number).unwrap().to_be_bytes()[1..]);
    }
    bytes.extend([0; 16]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    let nodes = u64::try_from(nodes.len()).unwrap();
    let metadata = Value::Map(vec![
        ("binary_format_major_version", Value::Number(5, 2)),
        ("binary_format_minor_version", Value::Number(5, 0)),
        ("build_epoch", Value::Number(9, 1_795_000_000)),
        ("database_type", Value::Text("Test-City")),
        ("description", Value::Map(vec![("en", Value::Text("of a test"))])),
        ("ip_version", Value::Number(5, 4)),
        ("languages", Value::List(vec![Value::Text("en")])),
        ("node_count", Value::Number(6, nodes)),
        ("record_size", Value::Number(5, 24)),
    ]);
    metadata.write(&mut bytes);
    bytes
}

fn city(latitude: f64, longitude: f64) -> Value<'static> {
    let location =
        vec![("latitude", Value::Double(latitude)), ("longitude", Value::Double(longitude))];
    Value::Map(vec![("location", Value::Map(location))])
}

fn country(continent: &'static str) -> Value<'static> {
    let names = Value::Map(vec![("en", Value::Text("somewhere"))]);
    Value::Map(vec![
        ("continent", Value::Map(vec![("code", Value::Text(continent))])),
        ("country", Value::Map(vec![("names", names)])),
    ])
}

fn locations() -> Locations {
    let regions = ["ap", "eu", "us"].map(RegionName::from);
    let file = "198.51.100.0/24 us\neu 50.1 8.7\nus 38.9 -77.4\nap 1.3 103.8\n";
    Locations::parse(file, &regions).unwrap()
}

#[test]
fn an_address_is_near_the_region_that_is_nearest_to_where_the_database_has_it() {
    let database = database(&[
        ("10.1.0.0/16", city(48.9, 2.4)),
        ("10.2.0.0/16", city(45.5, -73.6)),
        ("10.3.0.0/16", city(-33.9, 151.2)),
        ("10.4.0.0/16", country("SA")),
        ("10.5.0.0/16", country("AS")),
        ("10.6.0.0/16", country("XX")),
        ("10.7.0.0/16", city(999.0, 0.0)),
        ("10.8.0.0/16", Value::Text("no entry of this kind")),
        ("198.51.100.0/24", city(50.0, 8.0)),
    ]);
    let locations = locations().with_database(database).unwrap();
    let near = |address: &str| {
        locations.region(address.parse().unwrap()).map(|region| region.as_str().to_owned())
    };
    assert_eq!(near("10.1.2.3").as_deref(), Some("eu"), "Paris");
    assert_eq!(near("10.2.2.3").as_deref(), Some("us"), "Montreal");
    assert_eq!(near("10.3.2.3").as_deref(), Some("ap"), "Sydney");
    assert_eq!(near("10.4.2.3").as_deref(), Some("us"), "somewhere in South America");
    assert_eq!(near("10.5.2.3").as_deref(), Some("ap"), "somewhere in Asia");
    for unknown in ["10.6.2.3", "10.7.2.3", "10.8.2.3", "192.0.2.1", "2001:db8::1"] {
        assert_eq!(near(unknown), None, "{unknown}");
    }
    assert_eq!(near("198.51.100.9").as_deref(), Some("us"), "the operator knows better");
}

#[test]
fn a_database_that_is_cut_off_or_damaged_is_an_error_or_knows_less() {
    let whole = database(&[("10.1.0.0/16", city(48.9, 2.4)), ("10.2.0.0/16", country("EU"))]);
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        for bytes in [whole[..at].to_vec(), damaged] {
            match locations().with_database(bytes) {
                Ok(locations) => {
                    let _ = locations.region([10, 1, 2, 3].into());
                    let _ = locations.region([10, 2, 2, 3].into());
                }
                Err(error) => assert!(matches!(error, DatabaseError::Broken(_))),
            }
        }
    }
}
