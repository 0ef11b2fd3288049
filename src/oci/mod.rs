//! Images as the world sees them: where they come from, and how they fill the store.
//!
//! | File | What |
//! |---|---|
//! | [`mod@reference`] | names of images, parsed and completed |
//! | [`manifest`] | manifests, indexes, the choice of a platform |
//! | [`image_config`] | the config blob; the layers' IDs in the store |
//! | [`credentials`] | logins from auth files and pull secrets |
//! | [`source`] | [`Source`]: where manifests and blobs come from |
//! | [`registry`] | a source: a registry, over HTTP |
//! | [`layout`] | a source: an OCI layout in a directory or a tar file |
//! | [`pull`] | [`Puller`]: resolve, fetch, unpack, adopt |
//!
//! Only the registry's requests are asynchronous; everything that touches the store blocks.

pub mod credentials;
pub mod image_config;
pub mod layout;
pub mod manifest;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod source;

pub use credentials::{AuthFilePlaces, Credentials, CredentialsError, Keyring, Secret};
pub use manifest::Platform;
pub use pull::{PullError, PullRequest, Pulled, Puller};
pub use reference::{ImageSource, ParseReferenceError, Reference};
pub use registry::{Registry, RegistryOptions, Transport};
pub use source::{Source, SourceError};
