//! A summary's bytes, for engines that keep values and know nothing of what they mean.

use outlast_model::Epoch;

use crate::{NAME_BYTES_MAX, NodeSummary, SUMMARY_NODES_MAX, Summary};

/// Most bytes of an encoded summary, those included that a later version may add. Below the 1.5 MiB that etcd takes in a
/// request, above what [`SUMMARY_NODES_MAX`] nodes with the longest names need today.
pub const SUMMARY_BYTES_MAX: usize = 512 * 1_024;

/// Why bytes are not a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SummaryError {
    /// Fewer bytes than its fields need.
    #[error("summary is cut short")]
    Short,
    /// More bytes than [`SUMMARY_BYTES_MAX`].
    #[error("summary has bytes too many")]
    Long,
    /// A version that this program does not speak.
    #[error("unknown version {0} of a summary")]
    Version(u8),
    /// A field's value is outside its range.
    #[error("malformed {0} in a summary")]
    Field(&'static str),
}

const VERSION: u8 = 1;
const DRAINING: u8 = 1;

impl Summary {
    /// The summary's bytes, integers big-endian: version (1 byte), length of the region's name (1), its name, number of
    /// nodes (2), then each node: bytes that follow of it (2), flags (1; bit 0: draining), epoch (8), load in thousandths
    /// (2), rooms (4), length of its name (1), its name. A summary that no engine takes makes bytes that nobody decodes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_name(self.region.as_str(), &mut out);
        out.extend_from_slice(&u16::try_from(self.nodes.len()).unwrap_or(u16::MAX).to_be_bytes());
        for node in &self.nodes {
            let mut fields = vec![if node.draining { DRAINING } else { 0 }];
            fields.extend_from_slice(&node.epoch.0.to_be_bytes());
            fields.extend_from_slice(&node.load_permille.to_be_bytes());
            fields.extend_from_slice(&node.rooms.to_be_bytes());
            put_name(node.node.as_str(), &mut fields);
            out.extend_from_slice(&u16::try_from(fields.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(&fields);
        }
        out
    }

    /// Reads a summary. A later version that only adds writes version 1 still: what follows the last field of a node and
    /// the last node, and flags without a meaning here, are passed over.
    ///
    /// # Errors
    /// See [`SummaryError`].
    pub fn decode(bytes: &[u8]) -> Result<Summary, SummaryError> {
        if bytes.len() > SUMMARY_BYTES_MAX {
            return Err(SummaryError::Long);
        }
        let mut rest = Fields(bytes);
        let version = rest.u8()?;
        if version != VERSION {
            return Err(SummaryError::Version(version));
        }
        let region = rest.name("region")?.into();
        let nodes = usize::from(rest.u16()?);
        if nodes > SUMMARY_NODES_MAX {
            return Err(SummaryError::Field("number of nodes"));
        }
        let nodes = (0..nodes).map(|_| {
            let length = usize::from(rest.u16()?);
            node(Fields(rest.take(length)?))
        });
        Ok(Summary { nodes: nodes.collect::<Result<_, _>>()?, region })
    }
}

fn node(mut fields: Fields<'_>) -> Result<NodeSummary, SummaryError> {
    let flags = fields.u8()?;
    Ok(NodeSummary {
        draining: flags & DRAINING != 0,
        epoch: Epoch(u64::from_be_bytes(fields.array()?)),
        load_permille: fields.u16()?,
        rooms: u32::from_be_bytes(fields.array()?),
        node: fields.name("node")?.into(),
    })
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], SummaryError> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(SummaryError::Short)?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SummaryError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(SummaryError::Short)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, SummaryError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn u16(&mut self) -> Result<u16, SummaryError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn name(&mut self, what: &'static str) -> Result<&'a str, SummaryError> {
        let length = usize::from(self.u8()?);
        match std::str::from_utf8(self.take(length)?) {
            Ok(name) if !name.is_empty() => Ok(name),
            Ok(_) | Err(_) => Err(SummaryError::Field(what)),
        }
    }
}

/// A name that is too long has the length 0, which is refused when read.
fn put_name(name: &str, out: &mut Vec<u8>) {
    const { assert!(NAME_BYTES_MAX == u8::MAX as usize) };
    out.push(u8::try_from(name.len()).unwrap_or(0));
    out.extend_from_slice(name.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn summary() -> Summary {
        let node = NodeSummary {
            node: "eu-1".into(),
            epoch: Epoch(7),
            draining: true,
            load_permille: 258,
            rooms: 3,
        };
        Summary { region: "eu".into(), nodes: vec![node] }
    }

    #[test]
    fn the_bytes_are_the_same_in_every_version() {
        let hex: String = summary().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let fields = [
            "01",
            "02",
            "6575",
            "0001",
            "0014",
            "01",
            "0000000000000007",
            "0102",
            "00000003",
            "04",
            "65752d31",
        ];
        assert_eq!(hex, fields.concat());
    }

    #[test]
    fn a_later_version_may_add_fields_and_flags() {
        let mut bytes = summary().encode();
        bytes[7] += 3;
        bytes[8] |= 0b1010_0000;
        bytes.extend_from_slice(&[9; 20]);
        assert_eq!(Summary::decode(&bytes), Ok(summary()));
        bytes[0] = 2;
        assert_eq!(Summary::decode(&bytes), Err(SummaryError::Version(2)));
    }

    #[test]
    fn limits_hold() {
        let name = "x".repeat(NAME_BYTES_MAX);
        let node = NodeSummary { node: name.as_str().into(), ..summary().nodes[0].clone() };
        let nodes = vec![node.clone(); SUMMARY_NODES_MAX];
        let mut largest = Summary { region: name.as_str().into(), nodes };
        let mut bytes = largest.encode();
        assert_eq!(Summary::decode(&bytes).as_ref(), Ok(&largest));
        bytes.resize(SUMMARY_BYTES_MAX + 1, 0);
        assert_eq!(Summary::decode(&bytes), Err(SummaryError::Long));
        largest.nodes.push(node);
        let field = SummaryError::Field("number of nodes");
        assert_eq!(Summary::decode(&largest.encode()), Err(field));
        for name in [String::new(), "x".repeat(NAME_BYTES_MAX + 1)] {
            let region = Summary { region: name.as_str().into(), nodes: vec![] };
            assert_eq!(Summary::decode(&region.encode()), Err(SummaryError::Field("region")));
            let mut summary = summary();
            summary.nodes[0].node = name.as_str().into();
            assert_eq!(Summary::decode(&summary.encode()), Err(SummaryError::Field("node")));
        }
    }

    proptest! {
        #[test]
        fn every_summary_comes_back_and_none_that_is_cut(
            region in "[a-zé]{1,100}",
            nodes in prop::collection::vec(("[a-zé]{1,100}", any::<(u64, bool, u16, u32)>()), 0..5),
            cut: prop::sample::Index,
        ) {
            let nodes = nodes.into_iter().map(|(name, (epoch, draining, load_permille, rooms))| {
                NodeSummary { node: name.into(), epoch: Epoch(epoch), draining, load_permille, rooms }
            });
            let summary = Summary { region: region.into(), nodes: nodes.collect() };
            let bytes = summary.encode();
            let part = Summary::decode(&bytes[..cut.index(bytes.len())]);
            prop_assert_eq!(part, Err(SummaryError::Short));
            prop_assert_eq!(Summary::decode(&bytes), Ok(summary));
        }

        #[test]
        fn garbage_is_an_error_or_a_summary(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
            }
            if let Ok(summary) = Summary::decode(&bytes) {
                prop_assert_eq!(Summary::decode(&summary.encode()), Ok(summary));
            }
        }
    }
}
