//! Accepted features as a transport's registers take them.

use super::FeatureError;

/// The features that a driver accepts, collected from the words of 32 bits in which a transport's
/// register takes them (`driver_feature_select` and `driver_feature` of PCI, `DriverFeaturesSel`
/// and `DriverFeatures` of MMIO).
///
/// One word alone is not a set that could be judged, so a transport collects them here and hands
/// all of them to [`ack_features`](crate::VirtioDevice::ack_features) when the driver sets
/// FEATURES_OK, which stays clear if that fails. Words may come in any order and more than once; at
/// a reset of the device a transport starts over.
///
/// ```
/// # use net_device::features::FeatureWords;
/// let mut accepted = FeatureWords::default();
/// accepted.write(0, 0x0001_0020);
/// accepted.write(1, 0x0000_0001);
/// assert_eq!(accepted.read(1), 1);
/// assert_eq!(accepted.bits(), Ok(0x1_0001_0020));
/// ```
///
/// A transport whose registers take 64 bits at once writes two words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureWords {
    words: [u32; WORDS],
    /// A bit was written for which there is no feature.
    beyond: bool,
}

/// Words of 32 bits in a set of features.
const WORDS: usize = u128::BITS as usize / u32::BITS as usize;

impl FeatureWords {
    /// Word `select` of the features in `bits`, as a transport shows what is offered; zero beyond
    /// the fourth.
    #[must_use]
    pub fn word(bits: u128, select: u32) -> u32 {
        let shifted = bits.checked_shr(select.saturating_mul(u32::BITS));
        shifted.unwrap_or_default() as u32
    }

    /// The driver writes word `select`.
    pub fn write(&mut self, select: u32, word: u32) {
        match self.words.get_mut(select as usize) {
            Some(slot) => *slot = word,
            None => self.beyond |= word != 0,
        }
    }

    /// Word `select` as it was written.
    #[must_use]
    pub fn read(&self, select: u32) -> u32 {
        self.words.get(select as usize).copied().unwrap_or(0)
    }

    /// The whole set.
    ///
    /// # Errors
    /// A bit beyond the fourth word was accepted, where nothing is ever offered (NET-FEAT-06).
    pub fn bits(&self) -> Result<u128, FeatureError> {
        if self.beyond {
            return Err(FeatureError::Beyond);
        }
        let words = self.words.iter().rev();
        Ok(words.fold(0, |bits, word| bits << u32::BITS | u128::from(*word)))
    }
}
