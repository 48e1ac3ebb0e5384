use bincode::{Decode, Encode};

use crate::key::Network;

/// Unknown and malformed tokens of one hour.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HourOfGuesses {
    /// Hours since 1970-01-01T00:00:00Z.
    pub hour: u32,
    /// All of them.
    pub total: u64,
    /// Networks with their count, and by how much it may be too high.
    pub networks: Vec<(Network, u64, u64)>,
}
