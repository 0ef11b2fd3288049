//! Directories in which engines keep files of their own beside an object.

use std::path::PathBuf;

use super::Store;
use super::error::{Error, Kind};
use crate::sys::Dir;

/// The name of such a directory inside the object's own.
const USERDATA: &str = "userdata";

fn ensure(home: &Dir, id: &str) -> Result<Dir, Error> {
    Ok(home.ensure_dir(id, 0o700)?.ensure_dir(USERDATA, 0o700)?)
}

impl Store {
    fn container_id(&self, key: &str) -> Result<String, Error> {
        Ok(self
            .find_container(key)?
            .ok_or(Error::Unknown(Kind::Container))?
            .id
            .clone())
    }

    /// The durable directory of a container, made when missing.
    ///
    /// # Errors
    /// When the container is unknown or the directory can't be made.
    pub fn container_directory(&self, key: &str) -> Result<Dir, Error> {
        ensure(self.0.containers.dir(), &self.container_id(key)?)
    }

    /// The contents of one file in the durable directory of the container with this ID.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn find_container_file(&self, id: &str, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = [id, USERDATA, name].iter().collect::<PathBuf>();
        Ok(self.0.containers.dir().find(path)?)
    }

    /// The directory of a container that ends with the boot, made when missing.
    ///
    /// # Errors
    /// When the container is unknown or the directory can't be made.
    pub fn container_run_directory(&self, key: &str) -> Result<Dir, Error> {
        ensure(&self.0.container_run, &self.container_id(key)?)
    }

    /// The durable directory of an image, made when missing; that of an additional store's image is in our own, too.
    ///
    /// # Errors
    /// When the image is unknown or the directory can't be made.
    pub fn image_directory(&self, key: &str) -> Result<PathBuf, Error> {
        let image = self.find_image(key)?.ok_or(Error::Unknown(Kind::Image))?;
        Ok(ensure(self.0.images.dir_of(&image.id), &image.id)?
            .path()
            .to_owned())
    }

    /// The directory of an image that ends with the boot, made when missing.
    ///
    /// # Errors
    /// When the image is unknown or the directory can't be made.
    pub fn image_run_directory(&self, key: &str) -> Result<PathBuf, Error> {
        let image = self.find_image(key)?.ok_or(Error::Unknown(Kind::Image))?;
        let home = Dir::open_or_create(&self.0.image_run, 0o700)?;
        Ok(ensure(&home, &image.id)?.path().to_owned())
    }
}
