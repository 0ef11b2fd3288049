//! Images as the world sees them: where they come from, how they fill the store, and how they leave it.
//!
//! | File | What |
//! |---|---|
//! | [`mod@reference`] | names of images, parsed and completed |
//! | [`manifest`] | manifests, indexes, the choice of a platform |
//! | [`image_config`] | the config blob; the layers' IDs in the store |
//! | [`credentials`] | logins from auth files and pull secrets |
//! | [`source`] | [`Source`]: where manifests and blobs come from |
//! | [`registry`] | a source and destination: a registry, over HTTP |
//! | [`layout`] | a source: an OCI layout in a directory or a tar file |
//! | [`pull`] | [`Puller`]: resolve, fetch, unpack, adopt |
//! | [`mod@commit`] | makes an image of a container |
//! | [`push`] | [`Pusher`]: compress, send |
//! | [`destination`] | [`Destination`]: where images go |
//! | [`layout_writer`] | a destination: an OCI layout in a directory or a tar file |
//! | `stored` | an image of the store as what a registry would hold |
//!
//! Only the registry's requests are asynchronous; everything that touches the store blocks.

pub mod commit;
pub mod credentials;
pub mod destination;
pub mod image_config;
pub mod layout;
pub mod layout_writer;
pub mod manifest;
pub mod pull;
pub mod push;
pub mod reference;
pub mod registry;
pub mod source;
mod stored;

pub use commit::{CommitError, CommitRequest, Committed, commit};
pub use credentials::{AuthFilePlaces, Credentials, CredentialsError, Keyring, Secret};
pub use destination::Destination;
pub use layout::Layout;
pub use layout_writer::{ArchiveWriter, LayoutWriter};
pub use manifest::Platform;
pub use pull::{PullError, PullRequest, Pulled, Puller};
pub use push::{PushError, PushRequest, Pushed, Pusher};
pub use reference::{ImageSource, ParseReferenceError, Reference};
pub use registry::{Registry, RegistryOptions, Transport};
pub use source::{Source, SourceError};
pub use stored::StoredError;
