//! Panics that are results: what a trial complains of is kept, not printed, since many are expected where the suite is tried
//! itself.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// What the last panic of this thread said, while they are caught.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `act`; when it panics, where and with which words.
pub fn complaint<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let is_caught = SAID.with_borrow_mut(|said| match said {
                Some(said) => {
                    *said = panic.to_string();
                    true
                }
                None => false,
            });
            if !is_caught {
                before(panic);
            }
        }));
    });
    SAID.set(Some(String::new()));
    let result = panic::catch_unwind(AssertUnwindSafe(act));
    let said = SAID.take().unwrap_or_default();
    result.map_err(|_| said)
}
