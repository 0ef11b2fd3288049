//! What this kernel's overlay does when nobody tells it.

use super::options;
use crate::sys::{self, Dir};

/// True when a layer's `diff` alone tells what the layer changes: no renamed directories and no files without their
/// contents, which only a mount can resolve.
///
/// # Errors
/// When the kernel's settings can't be read.
pub(super) fn has_whole_diffs(
    configured: &[String],
    is_rootless: bool,
) -> Result<bool, sys::Error> {
    let asked = |name: &str| {
        let value = configured
            .iter()
            .rev()
            .find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
        value.map(|value| value == "on")
    };
    if options::uses_metacopy(configured, is_rootless) {
        return Ok(false);
    }
    let parameters =
        Dir::open("/sys/module/overlay").and_then(|module| module.find_dir("parameters"));
    let parameters = match parameters {
        Err(error) if !error.is_not_found() => return Err(error),
        found => found.ok().flatten(),
    };
    let is_default = |name: &str| -> Result<bool, sys::Error> {
        let text = match &parameters {
            Some(parameters) => parameters.find(name)?,
            None => None,
        };
        Ok(text.is_some_and(|text| text.starts_with(b"Y")))
    };
    let redirects = match asked("redirect_dir") {
        Some(answer) => answer,
        None => is_default("redirect_dir")?,
    };
    let metacopies = match asked("metacopy") {
        Some(answer) => answer,
        None => is_default("metacopy")?,
    };
    Ok(!redirects && !metacopies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_spread_a_layer_over_others_are_noticed() {
        let is_whole = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            has_whole_diffs(&options, false).unwrap()
        };
        assert!(!is_whole(&["metacopy=on"]));
        assert!(!is_whole(&["nodev", "redirect_dir=on", "metacopy=off"]));
        assert!(is_whole(&["redirect_dir=off", "metacopy=off"]));
        assert!(is_whole(&[
            "redirect_dir=on",
            "redirect_dir=off",
            "metacopy=off"
        ]));
    }
}
