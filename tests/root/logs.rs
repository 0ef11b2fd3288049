//! What the plugin logs when it logs all that it can: lines for machines, and no secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tonic::Code;

use crate::support::image::{self, Layer};
use crate::support::plugin::{self, Kubelet, Plugin, Settings, Wish, inline_handle};
use crate::support::scratch::Scratch;
use crate::support::server::{Door, Server};
use crate::support::tool;

const USER: &str = "some-pod";
const PASSWORD: &str = "xyzzy-plugh-42";
const IDENTITY: &str = "identity-plover-43";

/// Logins by password, by a token that a password buys, and by one that an identity token buys; right and wrong ones.
#[test]
fn the_whole_log_is_json_and_has_neither_passwords_nor_tokens() {
    tool::require_root();
    let scratch = Scratch::new("logs");
    let layout = scratch.path().join("layout");
    image::write_layout(&layout, "x", &[Layer::new().file("a", "a")]);
    let server = Server::start();
    server.add_layout(&layout, "a/b", "x");
    let mut settings = Settings::below(
        scratch.path(),
        &plugin::binary(env!("CARGO_BIN_EXE_strata")),
    );
    settings.arguments = ["--log-level", "trace", "--log-format", "json"]
        .map(str::to_owned)
        .to_vec();
    let plugin = Plugin::start(&settings);
    let kubelet = Kubelet::connect(&settings.socket);
    let pair = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let basic = format!("Basic {pair}");
    let target = settings.target("pod", "data");
    let publish = |login: &Value| {
        let reference = server.reference("a/b", "x");
        let mut wish = Wish::inline(&inline_handle("pod"), &target, Some(&reference))
            .with("pullPolicy", "Always");
        let file = serde_json::json!({ "auths": { server.address.to_string(): login } });
        wish.secrets = [(".dockerconfigjson".to_owned(), file.to_string())].into();
        let published = kubelet.publish(&wish);
        kubelet.unpublish(&wish.volume, &wish.target).unwrap();
        published
    };
    let by_fields = serde_json::json!({ "username": USER, "password": PASSWORD });
    let by_pair = serde_json::json!({ "auth": pair });
    let by_identity =
        serde_json::json!({ "auth": STANDARD.encode("<token>:"), "identitytoken": IDENTITY });
    for (door, login) in [
        (Door::Basic(basic.clone()), &by_fields),
        (Door::Basic(basic.clone()), &by_pair),
        (Door::Token(Some(basic)), &by_pair),
        (Door::Identity(IDENTITY.to_owned()), &by_identity),
    ] {
        server.set_door(door);
        publish(login).unwrap_or_else(|status| panic!("{status:?}\n{}", settings.log_text()));
    }
    for door in [
        Door::Basic("Basic other".to_owned()),
        Door::Token(Some("Basic other".to_owned())),
        Door::Identity("other".to_owned()),
    ] {
        server.set_door(door);
        for login in [&by_fields, &by_identity] {
            let status = publish(login).unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
            assert!(!status.message().contains(PASSWORD), "{status:?}");
        }
    }
    assert_eq!(plugin.stop(), 0);

    let log = settings.log_text();
    let mut levels = std::collections::BTreeSet::new();
    for line in log.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        levels.insert(line["level"].as_str().unwrap().to_owned());
    }
    assert!(
        levels.contains("TRACE") && levels.contains("INFO"),
        "{levels:?}"
    );
    let is_told = server.seen().iter().any(|seen| {
        let given = seen.headers.get("authorization");
        given.is_some_and(|text| text.contains("token-"))
    });
    assert!(is_told, "a token was used");
    let encoded = STANDARD.encode(IDENTITY);
    for secret in [
        PASSWORD,
        &pair,
        IDENTITY,
        &encoded,
        "Bearer token-",
        "token-1",
        "token-2",
    ] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is in the log: {line:?}");
    }
}
