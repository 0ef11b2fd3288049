//! Pods with volumes.

use serde_json::{Value, json};

use super::chart::DRIVER;
use super::cluster::{self, apply, kubectl};
use super::support::tool::Ran;

/// The image that the pods of the tests run.
const BUSYBOX: &str = "strata.invalid/busybox:1";

/// A pod with one container, and volumes at `/NAME`.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    script: String,
    volumes: Vec<Value>,
    mounts: Vec<Value>,
    grace: u32,
}

impl Pod {
    /// A pod that does nothing until it is asked to end.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            script: "true".to_owned(),
            volumes: Vec::new(),
            mounts: Vec::new(),
            grace: 1,
        }
    }

    /// What its container does first.
    pub fn script(mut self, script: &str) -> Self {
        script.clone_into(&mut self.script);
        self
    }

    fn volume(mut self, name: &str, source: &str, value: Value) -> Self {
        self.volumes.push(json!({ "name": name, source: value }));
        self.mounts
            .push(json!({ "name": name, "mountPath": format!("/{name}") }));
        self
    }

    /// A volume of Strata with these attributes.
    pub fn inline(self, name: &str, attributes: &[(&str, &str)]) -> Self {
        let attributes: Value = attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let source = json!({ "driver": DRIVER, "volumeAttributes": attributes });
        self.volume(name, "csi", source)
    }

    /// A volume of an image.
    pub fn image(self, name: &str, reference: &str) -> Self {
        self.inline(name, &[("image", reference)])
    }

    /// The last volume is only read.
    pub fn read_only(mut self) -> Self {
        self.last()["csi"]["readOnly"] = json!(true);
        self
    }

    /// The last volume is pulled with this secret.
    pub fn secret(mut self, name: &str) -> Self {
        self.last()["csi"]["nodePublishSecretRef"] = json!({ "name": name });
        self
    }

    fn last(&mut self) -> &mut Value {
        self.volumes.last_mut().expect("a volume")
    }

    /// A claim's volume.
    pub fn claim(self, name: &str, claim: &str) -> Self {
        self.volume(name, "persistentVolumeClaim", json!({ "claimName": claim }))
    }

    /// The cheapest volume that the kubelet has of its own.
    pub fn empty_dir(self, name: &str) -> Self {
        self.volume(name, "emptyDir", json!({}))
    }

    /// The object.
    pub fn object(&self) -> Value {
        let wait = "trap 'exit 0' TERM; sleep 100000 & wait";
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": self.name, "namespace": "default" },
            "spec": {
                "terminationGracePeriodSeconds": self.grace,
                "automountServiceAccountToken": false,
                // The cluster has no DNS, and would warn of that.
                "dnsPolicy": "Default",
                "containers": [{
                    "name": "main",
                    "image": BUSYBOX,
                    "command": ["sh", "-c", format!("{}\n{wait}", self.script)],
                    "volumeMounts": self.mounts,
                }],
                "volumes": self.volumes,
            },
        })
    }

    /// Asks for it.
    pub fn create(&self) -> Running {
        apply(&self.object());
        Running {
            name: self.name.clone(),
        }
    }

    /// Asks for it and waits until it runs.
    pub fn run(&self) -> Running {
        let pod = self.create();
        pod.wait_until_ready();
        pod
    }
}

/// A pod that the cluster was asked for.
#[derive(Debug)]
pub struct Running {
    pub name: String,
}

impl Running {
    /// Waits until it runs.
    ///
    /// # Panics
    /// With its events, when it does not.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        let pod = format!("pod/{}", self.name);
        let ran = kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=60s"]).output();
        assert!(
            ran.code == 0,
            "{ran}\n{:#?}",
            super::events::of(&self.object())
        );
    }

    /// Runs commands of its shell.
    pub fn try_shell(&self, commands: &str) -> Ran {
        kubectl(&["exec", &self.name, "--", "sh", "-c", commands]).output()
    }

    /// Runs commands of its shell, which must succeed. What they print.
    #[track_caller]
    pub fn shell(&self, commands: &str) -> String {
        let ran = self.try_shell(commands);
        assert!(ran.code == 0, "{ran}");
        ran.text()
    }

    /// Deletes it, and waits until it is gone.
    pub fn delete(self) {
        kubectl(&["delete", "pod", &self.name, "--timeout=60s"]).ok();
    }

    /// The object.
    pub fn object(&self) -> Value {
        cluster::get(&["pod", &self.name])
    }
}
