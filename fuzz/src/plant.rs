//! A bug more in each target: a rare state is taken for a fault. Fuzzing that does not find it within a minute is
//! worth nothing.

use std::sync::OnceLock;

/// Panics in a planted run when `is_there`, a state that the kept corpus does not lead to.
pub fn bug(is_there: bool) {
    static PLANTED: OnceLock<bool> = OnceLock::new();
    if is_there && *PLANTED.get_or_init(|| std::env::var_os("STRATA_FUZZ_PLANT").is_some()) {
        panic!("the planted bug is found");
    }
}
