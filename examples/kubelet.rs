//! What the kubelet does with the plugin, step by step and in words: `make run`.
//!
//! With a real registry, a real image and the real binary: two writable volumes of one image are
//! published, written to, compared; the plugin is killed and started again; everything is taken down.
//! `IMAGE=reference` shows the same with an image of your own.
//!
//! `scripts/run` starts this in a mount and process namespace of its own, so that whatever happens
//! nothing stays behind.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a demonstration talks, runs programs, and makes and inspects files"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use support::image;
use support::plugin::{Kubelet, Plugin, Settings, Wish, inline_handle};
use support::registry::Registry;
use support::scratch::{Scratch, mounts_below};
use support::tool::Tool;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Tells the story: numbered steps, each with what it took.
struct Story {
    start: Instant,
    steps: u32,
}

impl Story {
    fn chapter(&mut self, text: &str) {
        self.steps += 1;
        println!("\n{}. {text}", self.steps);
    }

    fn line(&self, text: impl AsRef<str>) {
        println!("   {}", text.as_ref());
    }

    /// Does something that takes time, and says how long.
    fn timed<T>(&self, text: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let start = Instant::now();
        let result = work()?;
        println!("   {text}: {}", milliseconds(start.elapsed()));
        Ok(result)
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(binary), Some(folder)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: kubelet STRATA-BINARY EMPTY-FOLDER (or simply: make run)");
        return ExitCode::from(2);
    };
    let interrupted = std::thread::spawn(wait_for_signal);
    let (send, receive) = std::sync::mpsc::channel();
    let place = folder.clone();
    std::thread::spawn(move || {
        let scratch = Scratch::within(&place);
        let told = std::panic::catch_unwind(|| tell(&binary, scratch.path()));
        drop(scratch);
        drop(send.send(told));
    });
    loop {
        match receive.recv_timeout(Duration::from_millis(20)) {
            Ok(Ok(Ok(()))) => return ExitCode::SUCCESS,
            Ok(Ok(Err(error))) => {
                eprintln!("\nIt failed: {error}");
                let log = fs::read_to_string(folder.join("plugin.log")).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(15).collect();
                eprintln!("The last lines of the plugin's log:");
                for line in tail.into_iter().rev() {
                    eprintln!("  {line}");
                }
                return ExitCode::FAILURE;
            }
            Ok(Err(_)) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                return ExitCode::FAILURE;
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) if interrupted.is_finished() => {
                eprintln!("\nInterrupted: taking everything down.");
                return ExitCode::from(130);
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Returns at SIGINT or SIGTERM.
fn wait_for_signal() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return;
    };
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    });
}

fn tell(binary: &Path, folder: &Path) -> Outcome<()> {
    let mut story = Story {
        start: Instant::now(),
        steps: 0,
    };
    let own_image = std::env::var("IMAGE").ok().filter(|name| !name.is_empty());
    println!("Strata: from a container image to writable volumes.");

    let registry;
    let reference = if let Some(name) = own_image {
        story.chapter("The image");
        story.line(format!("yours: {name}"));
        name
    } else {
        story.chapter("A registry with an image");
        registry = story.timed("started a registry of our own on loopback", || {
            Ok(Registry::start(&folder.join("registry")))
        })?;
        let layout = folder.join("layout");
        let layers = story.timed(
            "built an image with umoci from busybox and a web page",
            || Ok(image::build_with_umoci(folder, &layout, "demo")),
        )?;
        let digest = registry.push(&layout, "demo/site", "latest");
        let reference = registry.reference("demo/site", "latest");
        story.line(format!("pushed it: {reference}, {layers} layers, {digest}"));
        reference
    };

    story.chapter("The plugin");
    let settings = Settings::below(folder, binary);
    story.line(format!("store: {}", settings.graph.display()));
    story.line(format!("socket: {}", settings.socket.display()));
    let plugin = story.timed("`strata node` started and says that it is ready", || {
        Ok(Plugin::start(&settings))
    })?;
    let kubelet = Kubelet::connect(&settings.socket);
    let info = kubelet.info()?;
    story.line(format!(
        "it calls itself {} {}",
        info.name, info.vendor_version
    ));

    story.chapter("A pod asks for a volume of the image");
    let (first, first_target) = (inline_handle("first"), settings.target("pod-one", "site"));
    story.timed("NodePublishVolume: image pulled, volume mounted", || {
        publish(&kubelet, &first, &first_target, &reference)
    })?;
    let file = find_file(&first_target)?;
    let shown = file.strip_prefix(&first_target)?.display().to_string();
    let original = fs::read(&file)?;
    story.line(format!("the volume has the image's files; /{shown} says:"));
    story.line(format!("  {}", excerpt(&original)));

    story.chapter("The pod writes");
    fs::write(&file, b"The first pod was here.\n")?;
    fs::write(first_target.join("diary"), b"a new file\n")?;
    story.line(format!("changed /{shown}, made /diary"));

    story.chapter("A second pod asks for the same image");
    let (second, second_target) = (inline_handle("second"), settings.target("pod-two", "site"));
    story.timed("NodePublishVolume: nothing to pull any more", || {
        publish(&kubelet, &second, &second_target, &reference)
    })?;
    let (one, two) = (fs::read(&file)?, fs::read(second_target.join(&shown))?);
    story.line(format!("the first pod reads:  {}", excerpt(&one)));
    story.line(format!("the second pod reads: {}", excerpt(&two)));
    expect(
        one != two && two == original,
        "the volumes differ, and the second is the image's",
    )?;
    expect(
        !second_target.join("diary").exists(),
        "/diary is the first pod's alone",
    )?;
    story.line("so they differ");
    story.timed("read the image's layers again from the store", || {
        image_is_untouched(binary, &settings)
    })?;
    story.line(
        "each is, by its digest, the archive that came from the registry: the image is untouched",
    );

    story.chapter("The plugin is killed");
    let settings = plugin.kill();
    story.line("kill -9; both pods keep their volumes:");
    story.line(format!(
        "the first pod reads:  {}",
        excerpt(&fs::read(&file)?)
    ));
    let plugin = story.timed("started again, ready", || Ok(Plugin::start(&settings)))?;
    let kubelet = Kubelet::connect(&settings.socket);
    story.timed(
        "NodePublishVolume once more, as the kubelet does: nothing to do",
        || publish(&kubelet, &first, &first_target, &reference),
    )?;
    expect(fs::read(&file)? == one, "the data is still there")?;
    story.line(format!(
        "the first pod reads:  {}",
        excerpt(&fs::read(&file)?)
    ));

    story.chapter("The pods go");
    story.timed("NodeUnpublishVolume, twice", || {
        kubelet.unpublish(&first, &first_target)?;
        kubelet.unpublish(&second, &second_target)?;
        Ok(())
    })?;
    expect(
        !first_target.exists() && !second_target.exists(),
        "the targets are gone",
    )?;
    let containers = Tool::at(binary)
        .args(settings.store_arguments())
        .args(["containers", "--json"])
        .ok()
        .json();
    let left = containers.as_array().map_or(0, Vec::len);
    expect(left == 0, "no volume is left in the store")?;
    let mounts = mounts_below(folder);
    expect(
        mounts.is_empty(),
        &format!("no mount is left, but: {mounts:?}"),
    )?;
    story.line("no target, no mount and no volume is left; the image stays for the next pod");
    let code = plugin.stop();
    expect(
        code == 0,
        &format!("the plugin ends in peace, not with {code}"),
    )?;

    println!("\nDone in {:.1} s.", story.start.elapsed().as_secs_f64());
    Ok(())
}

/// Every layer of the image is the archive that came: what is read back of it has the digest that its record has from
/// the image's own configuration.
fn image_is_untouched(binary: &Path, settings: &Settings) -> Outcome<()> {
    let strata = || Tool::at(binary).args(settings.store_arguments());
    let layers = strata().args(["layers", "--json"]).ok().json();
    let layers = layers.as_array().ok_or("the layers are no list")?;
    // The volumes' own layers came from nowhere.
    let layers = layers
        .iter()
        .filter_map(|layer| Some((layer["id"].as_str()?, layer["diff-digest"].as_str()?)));
    let mut count = 0;
    for (id, came) in layers.filter(|(_, came)| !came.is_empty()) {
        let read = image::digest(&strata().args(["diff", "-u", id]).ok().stdout);
        expect(read == came, &format!("layer {id} is {came}, not {read}"))?;
        count += 1;
    }
    expect(count > 0, "the image has layers")
}

fn publish(kubelet: &Kubelet, volume: &str, target: &Path, image: &str) -> Outcome<()> {
    let wish = Wish::inline(volume, target, Some(image));
    // A pull may take longer than a call: the kubelet tries again, and joins the pull.
    let deadline = Instant::now() + Duration::from_secs(1800);
    loop {
        match kubelet.publish(&wish) {
            Ok(()) => return Ok(()),
            Err(status) => {
                // Unavailable is also what a pull says that takes longer than one call waits.
                let again = matches!(
                    status.code(),
                    tonic::Code::Aborted | tonic::Code::DeadlineExceeded
                ) || (status.code() == tonic::Code::Unavailable
                    && status.message().contains("a retry joins it"));
                if !again || Instant::now() > deadline {
                    return Err(format!("{:?}: {}", status.code(), status.message()).into());
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }
}

fn expect(is_so: bool, what: &str) -> Outcome<()> {
    if is_so {
        Ok(())
    } else {
        Err(format!("expected: {what}").into())
    }
}

/// A small text file of the volume: the demonstration's page, or the first that is found.
fn find_file(root: &Path) -> Outcome<PathBuf> {
    for known in ["srv/index.html", "etc/os-release", "etc/passwd"] {
        let path = root.join(known);
        if fs::symlink_metadata(&path).is_ok_and(|data| data.is_file()) {
            return Ok(path);
        }
    }
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let data = fs::symlink_metadata(&path)?;
            if data.is_dir() {
                folders.push(path);
            } else if data.is_file() && (1..100_000).contains(&data.len()) {
                return Ok(path);
            }
        }
    }
    Err("the image has no small file to show".into())
}

fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(70)
        .collect()
}
