use super::*;
use crate::engine::tx::TxConfig;
use crate::header::TxRules;
use crate::offload::Offloads;

/// Each run asks, and would take the longer way for nothing.
#[test]
fn no_frame_is_being_cut_before_there_is_one() {
    for segmentation in [Offloads::empty(), Offloads::TSO4] {
        let config = TxConfig {
            segmentation,
            ..TxConfig::new(TxRules::new(Offloads::CSUM))
        };
        assert!(!TxPath::new(&config, false).is_segmenting());
    }
}
