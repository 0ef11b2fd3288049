//! How a pull or push goes on, on stderr: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::oci::manifest::Descriptor;
use crate::oci::pull::Progress;

/// Bars on a terminal, lines elsewhere. `verb` is what is done with layers: `fetch`.
pub(super) fn of(verb: &'static str) -> Arc<dyn Progress> {
    if std::io::stderr().is_terminal() {
        Arc::new(Bars {
            verb,
            all: MultiProgress::default(),
            layers: Mutex::default(),
        })
    } else {
        Arc::new(Lines { verb })
    }
}

/// The first digits of a digest: enough to tell the layers of an image apart.
fn short(layer: &Descriptor) -> &str {
    let hex = layer.digest.hex();
    hex.get(..12).unwrap_or(hex)
}

fn summary(verb: &str, image: &str, missing: &[Descriptor], present: usize) -> String {
    let bytes = missing.iter().map(|layer| layer.size).sum();
    format!(
        "{image}: {} layers to {verb} ({}), {present} present",
        missing.len(),
        HumanBytes(bytes)
    )
}

/// One line when the image is known, and one for each layer that is done.
#[derive(Debug)]
struct Lines {
    verb: &'static str,
}

#[expect(
    clippy::print_stderr,
    reason = "several threads tell; stdout has the result alone"
)]
impl Progress for Lines {
    fn resolved(&self, image: &str, missing: &[Descriptor], present: usize) {
        eprintln!("{}", summary(self.verb, image, missing, present));
    }

    fn advanced(&self, _: &Descriptor, _: u64) {}

    fn finished(&self, layer: &Descriptor) {
        eprintln!("{}: done ({})", short(layer), HumanBytes(layer.size));
    }
}

/// A bar for each layer.
#[derive(Debug)]
struct Bars {
    verb: &'static str,
    all: MultiProgress,
    layers: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    fn with(&self, layer: &Descriptor, act: impl FnOnce(&ProgressBar)) {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = layers.get(layer.digest.as_str()) {
            act(bar);
        }
    }
}

/// The last bar leaves the cursor at its end.
#[expect(clippy::print_stderr, reason = "stdout has the result alone")]
impl Drop for Bars {
    fn drop(&mut self) {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if !layers.is_empty() {
            eprintln!();
        }
    }
}

#[expect(clippy::print_stderr, reason = "stdout has the result alone")]
impl Progress for Bars {
    fn resolved(&self, image: &str, missing: &[Descriptor], present: usize) {
        // No bar is drawn yet, so this line stays above them.
        eprintln!("{}", summary(self.verb, image, missing, present));
        let style = ProgressStyle::with_template(
            "{prefix} {bar:30} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in missing {
            let bar = self
                .all
                .add(ProgressBar::new(layer.size).with_style(style.clone()));
            bar.set_prefix(short(layer).to_owned());
            layers.insert(layer.digest.as_str().to_owned(), bar);
        }
    }

    fn advanced(&self, layer: &Descriptor, bytes: u64) {
        self.with(layer, |bar| bar.inc(bytes));
    }

    fn finished(&self, layer: &Descriptor) {
        self.with(layer, |bar| bar.finish_with_message("done"));
    }
}
