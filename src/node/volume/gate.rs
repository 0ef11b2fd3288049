//! One operation per volume at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Another operation works on the volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("volume {volume}: {doing} is under way; try again when it is done")]
pub struct Taken {
    /// Which volume.
    pub volume: String,
    /// What is being done to it.
    pub doing: &'static str,
}

/// Who works on what.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    taken: Arc<Mutex<HashMap<String, &'static str>>>,
}

/// The right to work on a volume; ends when dropped.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    gate: Gate,
    volume: String,
}

impl Gate {
    /// Takes the volume for what is about to be done.
    ///
    /// # Errors
    /// When somebody has it.
    pub fn enter(&self, volume: &str, doing: &'static str) -> Result<Turn, Taken> {
        let mut taken = self.lock();
        if let Some(other) = taken.get(volume) {
            return Err(Taken {
                volume: volume.to_owned(),
                doing: other,
            });
        }
        taken.insert(volume.to_owned(), doing);
        drop(taken);
        Ok(Turn {
            gate: self.clone(),
            volume: volume.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, &'static str>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.gate.lock().remove(&self.volume);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_for_each_volume() {
        let gate = Gate::default();
        let turn = gate.enter("a", "a publish").unwrap();
        let other = gate.enter("b", "a publish").unwrap();
        let taken = gate.enter("a", "an unpublish").unwrap_err();
        assert_eq!(taken.doing, "a publish");
        drop(turn);
        let again = gate.enter("a", "an unpublish").unwrap();
        drop((other, again));
    }
}
