//! Images of additional stores become the store's own, so that nobody can take their layers away from
//! under a volume.

use super::error::{self, PullError};
use super::layers::Task;
use super::request::Pulled;
use super::{ATTEMPTS, Key, Outcome, Puller};
use crate::store::{self, ImageRecord, Kind, NewImage};

impl Puller {
    /// True when nothing of the image with this ID is an additional store's, or nobody has it.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn is_own(&self, image: &str) -> Result<bool, PullError> {
        let store = &self.0.store;
        if !store.has_others() {
            return Ok(true);
        }
        match store.find_image(image)? {
            Some(found) if found.is_read_only => Ok(false),
            Some(found) => Ok(store.is_whole(&found.layer)?),
            None => Ok(true),
        }
    }

    /// Brings what additional stores have of the image with this ID into the store, in the background,
    /// and waits for it. One that is under way is joined, and goes on when the caller stops waiting.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn bring(&self, image: &str) -> Outcome {
        let id = image.to_owned();
        self.join(Key::Bring(id.clone()), id.clone(), move |puller| {
            puller.bring_here(&id)
        })
        .await
    }

    /// As [`Puller::bring`], on this thread.
    ///
    /// # Errors
    /// See [`PullError`].
    pub fn bring_here(&self, image: &str) -> Result<Pulled, PullError> {
        let mut attempts = 1;
        loop {
            match self.bring_once(image) {
                Err(error) if attempts < ATTEMPTS && error::is_worth_another_try(&error) => {
                    attempts += 1;
                }
                result => return result,
            }
        }
    }

    fn bring_once(&self, id: &str) -> Result<Pulled, PullError> {
        let inner = &*self.0;
        let store = &inner.store;
        let image = store
            .find_image(id)?
            .filter(|found| found.id == id)
            .ok_or(store::Error::Unknown(Kind::Image))?;
        let mut tasks = Vec::new();
        let mut parent: Option<String> = None;
        let chain = store.ancestry(&image.layer)?;
        for (number, layer) in chain.iter().enumerate() {
            // What is ours above it, or the image's record, knows it by its ID.
            let is_named_by_ours =
                !image.is_read_only || chain[number + 1..].iter().any(|above| !above.is_read_only);
            let own = if !layer.is_read_only {
                Some(layer.id.clone())
            } else if is_named_by_ours {
                None
            } else {
                store.find_twin(layer, parent.as_deref())?
            };
            let below = parent.replace(own.clone().unwrap_or_else(|| layer.id.clone()));
            if own.is_none() {
                tasks.push(Task::Bring {
                    original: layer.id.clone(),
                    id: layer.id.clone(),
                    parent: below,
                });
            }
        }
        let _wanted = self.want(chain.iter().map(|layer| layer.id.clone()));
        let work = self.work(id, u64::MAX, &());
        let layers = work.make(&tasks, inner.options.lanes)?;
        let names = self.free_names(&image)?;
        let created = store.create_image(NewImage {
            id: Some(image.id.clone()),
            names: names.clone(),
            layer: parent,
            metadata: image.metadata.clone(),
            created: Some(image.created),
            digest: image.digest.get().cloned(),
            big_data: store.image_items(&image)?,
            layers,
            extend: true,
            ..NewImage::default()
        });
        if let Err(error) = created {
            let error = error.into();
            work.give_up(&error);
            return Err(error);
        }
        let pulled = Pulled {
            image_id: image.id.clone(),
            digest: image.digest.get().cloned(),
            names,
            layers_brought: tasks.len(),
            layers_reused: chain.len() - tasks.len(),
            brought: work.brought(),
            ..Pulled::default()
        };
        tracing::info!(
            image = pulled.image_id,
            names = ?pulled.names,
            layers = pulled.layers_brought,
            reused = pulled.layers_reused,
            shared_bytes = pulled.brought.shared,
            copied_bytes = pulled.brought.copied,
            "an image was brought from an additional store"
        );
        Ok(pulled)
    }

    /// The image's names that no other image of the store has.
    fn free_names(&self, image: &ImageRecord) -> Result<Vec<String>, PullError> {
        let mut free = Vec::new();
        for name in &image.names {
            let owner = self.0.store.find_image(name)?;
            if owner.is_none_or(|owner| owner.is_read_only || owner.id == image.id) {
                free.push(name.clone());
            }
        }
        Ok(free)
    }
}
