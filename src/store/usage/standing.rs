//! Who stands on which layers, and so whom their bytes are counted to.

use std::collections::HashMap;

use super::measure::Measure;
use super::{Bytes, ObjectUsage};

/// Who stands on a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Users {
    #[default]
    Nobody,
    /// Images and containers are counted through.
    One(usize),
    Several,
}

/// Images and containers, and the layers below each.
pub(super) struct Standing {
    /// Places of layers below each object, each once.
    chains: Vec<Vec<usize>>,
    /// By the place of the layer.
    users: Vec<Users>,
}

impl Standing {
    /// Of these objects; `places` has those of the layers by their IDs, and `parent` what each stands on.
    pub(super) fn of<'a>(
        objects: &'a [ObjectUsage],
        places: &HashMap<&str, usize>,
        parent: impl Fn(usize) -> &'a String,
    ) -> Self {
        let chains = objects
            .iter()
            .map(|object| chain(&object.tops, places, &parent));
        let chains: Vec<Vec<usize>> = chains.collect();
        let mut users = vec![Users::Nobody; places.len()];
        for (object, chain) in chains.iter().enumerate() {
            for place in chain {
                users[*place] = match users[*place] {
                    Users::Nobody => Users::One(object),
                    Users::One(_) | Users::Several => Users::Several,
                };
            }
        }
        Self { chains, users }
    }

    /// True for the place of a layer that nothing stands on.
    pub(super) fn is_unused(&self, place: &usize) -> bool {
        self.users[*place] == Users::Nobody
    }

    /// Adds to each object what its layers have: what nobody else stands on is its own.
    pub(super) fn count(&self, measure: &Measure, objects: &mut [ObjectUsage]) {
        for (object, (usage, chain)) in objects.iter_mut().zip(&self.chains).enumerate() {
            let Bytes { own, shared } = &mut usage.bytes;
            let is_own = |place: &usize| self.users[*place] == Users::One(object);
            for place in chain {
                match is_own(place) {
                    true => *own += measure.alone[*place],
                    false => *shared += measure.alone[*place],
                }
            }
            for (owners, length) in &measure.common {
                if owners.iter().all(is_own) {
                    *own += length;
                } else if owners.iter().any(|owner| chain.contains(owner)) {
                    *shared += length;
                }
            }
        }
    }
}

/// The places of all layers below `tops`, each once.
fn chain<'a>(
    tops: &'a [String],
    places: &HashMap<&str, usize>,
    parent: impl Fn(usize) -> &'a String,
) -> Vec<usize> {
    let mut found = Vec::new();
    let mut met = std::collections::HashSet::new();
    for top in tops {
        let mut next = top;
        while let Some(place) = places.get(next.as_str())
            && met.insert(*place)
        {
            found.push(*place);
            next = parent(*place);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_end_where_a_layer_is_missing_or_met_again() {
        let parents = ["".to_owned(), "a".to_owned(), "gone".to_owned()];
        let places = HashMap::from([("a", 0), ("b", 1), ("c", 2)]);
        let tops = ["b".to_owned(), "c".to_owned(), "a".to_owned()];
        assert_eq!(chain(&tops, &places, |place| &parents[place]), [1, 0, 2]);
    }
}
