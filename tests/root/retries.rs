//! Calls that are cut short, given up and repeated; reboots; mounts that others take away.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use strata::node::csi::wire::node_client::NodeClient;
use strata::node::csi::wire::volume_capability::access_mode::Mode;
use tonic::{Code, Status};

use crate::support::image;
use crate::support::plugin::{self, Kubelet, Plugin, Settings, Wish, inline_handle};
use crate::support::registry::Registry;
use crate::support::scratch::{Scratch, mounts_below, unmount_below};
use crate::support::tool::{self, Tool};

/// Passes on to a registry what it is asked, and holds back the blobs until it is told to go on.
struct Brake {
    address: SocketAddr,
    is_released: Arc<AtomicBool>,
    blobs: Arc<AtomicUsize>,
}

impl Brake {
    fn before(registry: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let brake = Self {
            address: listener.local_addr().unwrap(),
            is_released: Arc::default(),
            blobs: Arc::default(),
        };
        let (is_released, blobs) = (Arc::clone(&brake.is_released), Arc::clone(&brake.blobs));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(registry).unwrap();
                let (is_released, blobs) = (Arc::clone(&is_released), Arc::clone(&blobs));
                std::thread::spawn(move || pass_on(client, server, &is_released, &blobs));
            }
        });
        brake
    }
}

fn pass_on(client: TcpStream, server: TcpStream, is_released: &AtomicBool, blobs: &AtomicUsize) {
    let (mut answers, mut asker) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut answers, &mut asker));
    let (mut client, mut server) = (client, server);
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]);
        if text.starts_with("GET ") && text.contains("/blobs/") {
            blobs.fetch_add(1, Ordering::SeqCst);
            let deadline = Instant::now() + Duration::from_secs(60);
            while !is_released.load(Ordering::SeqCst) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if server.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// One publish whose caller waits so long.
pub fn publish_within(settings: &Settings, wish: &Wish, wait: Duration) -> Result<(), Status> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut request = tonic::Request::new(wish.request());
        request.set_timeout(wait);
        let mut client = NodeClient::new(plugin::channel(&settings.socket));
        client.node_publish_volume(request).await.map(drop)
    })
}

#[test]
fn a_pull_outlives_its_call_and_the_retry_joins_it() {
    tool::require_root();
    let scratch = Scratch::new("retries");
    let layout = scratch.path().join("layout");
    let built = image::write_busybox_layout(&layout, "one");
    let registry = Registry::start(&scratch.dir("registry"));
    registry.push(&layout, "test/busybox", "one");
    let brake = Brake::before(registry.address());
    let settings = Settings::below(scratch.path(), Path::new(env!("CARGO_BIN_EXE_strata")));
    let plugin = Plugin::start(&settings);
    let reference = format!("{}/test/busybox:one", brake.address);
    let wish = Wish::inline(
        &inline_handle("slow"),
        &settings.target("slow", "data"),
        Some(&reference),
    );
    // The plugin answers in the last tenth of the time: on an emulated processor that must be long enough.
    for _ in 0..3 {
        let status = publish_within(&settings, &wish, Duration::from_secs(2)).unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains("a retry joins it"), "{status}");
    }
    brake.is_released.store(true, Ordering::SeqCst);
    publish_within(&settings, &wish, Duration::from_secs(60)).unwrap();
    assert!(wish.target.join("data/greeting").is_file());
    // The config and each layer once, however often the call was made.
    assert_eq!(
        brake.blobs.load(Ordering::SeqCst),
        1 + built.layer_digests.len()
    );
    let kubelet = Kubelet::connect(&settings.socket);
    kubelet.unpublish(&wish.volume, &wish.target).unwrap();
    assert_eq!(plugin.stop(), 0);
}

#[test]
fn secrets_are_not_logged_and_a_useless_one_is_refused() {
    tool::require_root();
    let scratch = Scratch::new("secrets");
    let settings = Settings::below(scratch.path(), Path::new(env!("CARGO_BIN_EXE_strata")));
    let plugin = Plugin::start(&settings);
    let kubelet = Kubelet::connect(&settings.socket);
    let mut wish = Wish::inline(
        &inline_handle("secret"),
        &settings.target("secret", "data"),
        Some("127.0.0.1:1/nobody/listens:one"),
    );
    for secret in [
        r#"{"auths":{"127.0.0.1:1":{"username":"me","password":"xyzzy-1"}}}"#,
        r#"{"auths":{"127.0.0.1:1":"xyzzy-1"}}"#,
        "xyzzy-1",
    ] {
        wish.secrets = [(".dockerconfigjson".to_owned(), secret.to_owned())].into();
        let status = publish_within(&settings, &wish, Duration::from_millis(300)).unwrap_err();
        assert!(!status.message().contains("xyzzy"), "{status}");
    }
    wish.secrets = [("password".to_owned(), "xyzzy-1".to_owned())].into();
    let status = kubelet.publish(&wish).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(!settings.log_text().contains("xyzzy"));
    assert_eq!(plugin.stop(), 0);
}

/// Unmounts everything and makes the store believe in another boot, as far as volumes know of it.
fn reboot(plugin: Plugin) -> Plugin {
    let settings = plugin.kill();
    unmount_below(&settings.kubelet);
    unmount_below(&settings.run);
    fs::remove_dir_all(&settings.run).unwrap();
    fs::create_dir(&settings.run).unwrap();
    let records = settings.graph.join("overlay-containers/containers.json");
    let text = fs::read_to_string(&records).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(&records, text.replace(boot.trim(), "an-earlier-boot")).unwrap();
    Plugin::start(&settings)
}

#[test]
fn after_a_reboot_an_inline_volume_starts_anew_and_a_claims_goes_on() {
    tool::require_root();
    let scratch = Scratch::new("reboot");
    let settings = Settings::below(scratch.path(), Path::new(env!("CARGO_BIN_EXE_strata")));
    let plugin = Plugin::start(&settings);
    let kubelet = Kubelet::connect(&settings.socket);
    let inline = Wish::inline(
        &inline_handle("inline"),
        &settings.target("inline", "data"),
        None,
    );
    let made = kubelet.create("claim", &[]).unwrap();
    let mut claim = Wish::inline(&made.volume_id, &settings.target("claim", "data"), None);
    claim.attributes.clear();
    for wish in [&inline, &claim] {
        kubelet.publish(wish).unwrap();
        fs::write(wish.target.join("kept"), "x").unwrap();
    }
    let plugin = reboot(plugin);
    let kubelet = Kubelet::connect(&settings.socket);
    for wish in [&inline, &claim] {
        kubelet.publish(wish).unwrap();
    }
    assert!(!inline.target.join("kept").try_exists().unwrap());
    assert!(claim.target.join("kept").is_file());
    assert!(settings.log_text().contains("starts anew"));
    for wish in [&inline, &claim] {
        kubelet.unpublish(&wish.volume, &wish.target).unwrap();
    }
    kubelet.delete(&claim.volume).unwrap();
    assert_eq!(plugin.stop(), 0);
}

#[test]
fn a_volume_whose_own_mount_was_taken_away_goes_on_at_its_targets() {
    tool::require_root();
    let scratch = Scratch::new("taken");
    let settings = Settings::below(scratch.path(), Path::new(env!("CARGO_BIN_EXE_strata")));
    let mut plugin = Plugin::start(&settings);
    let mut kubelet = Kubelet::connect(&settings.socket);
    let volume = inline_handle("several");
    let mut wishes: Vec<_> = ["one", "two", "three"]
        .iter()
        .map(|name| Wish::inline(&volume, &settings.target(name, "data"), None))
        .collect();
    for wish in &mut wishes {
        wish.mode = Mode::SingleNodeMultiWriter;
    }
    kubelet.publish(&wishes[0]).unwrap();
    fs::write(wishes[0].target.join("file"), "one").unwrap();
    for restart in [false, true] {
        let id = volume.strip_prefix("csi-").unwrap();
        Tool::new("umount")
            .args([
                "-l",
                settings.run.join("volumes").join(id).to_str().unwrap(),
            ])
            .output();
        if restart {
            plugin = Plugin::start(&plugin.kill());
            kubelet = Kubelet::connect(&settings.socket);
        }
        let wish = &wishes[1 + usize::from(restart)];
        kubelet.publish(wish).unwrap();
        // The same overlay, not a second one on the same files.
        fs::write(wish.target.join("file"), "changed").unwrap();
        let text = fs::read_to_string(wishes[0].target.join("file")).unwrap();
        assert_eq!(text, "changed");
    }
    for wish in &wishes {
        kubelet.unpublish(&volume, &wish.target).unwrap();
    }
    assert_eq!(mounts_below(&settings.kubelet).len(), 0);
    assert_eq!(mounts_below(&settings.run).len(), 0);
    assert_eq!(plugin.stop(), 0);
}
