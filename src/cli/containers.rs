//! Commands on containers.

use super::definition::{Definition, Flag, MANY, Run};
use super::failure::{FAILED, Failure, Outcome};
use super::grammar::Given;
use super::output::{self, Output};
use super::{input, maps, objects};
use crate::store::{ContainerRecord, Error, NewContainer, Store};
use crate::sys::Dir;

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[
    Definition::peer(
        "create-container",
        "Create a new container from an image",
        Run::InStore(create),
    )
    .alias(&["createcontainer"])
    .operands("parentImageNameOrID", 1, 1)
    .flags(&[
        &[
            Flag::value("id", Some('i'), "Container ID"),
            Flag::values("name", Some('n'), "Container name"),
            Flag::switch("volatile", None, "Mark as volatile"),
        ],
        input::METADATA,
        maps::FLAGS,
        output::JSON,
    ]),
    Definition::peer("containers", "List containers", Run::InStore(list)).flags(&[output::JSON]),
    Definition::peer("container", "Examine a container", Run::InStore(examine))
        .operands("containerNameOrID [...]", 1, MANY)
        .flags(&[output::JSON]),
    Definition::peer(
        "delete-container",
        "Delete a container, with safety checks",
        Run::InStore(|store, given, output| {
            objects::delete(given, output, |key| Ok(store.delete_container(key)?))
        }),
    )
    .alias(&["deletecontainer"])
    .operands("containerNameOrID [...]", 1, MANY)
    .flags(&[output::JSON]),
];

/// `create-container`.
fn create(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let image = given.find_operand(0);
    let is_volatile = given.has("volatile");
    let container = store
        .create_container(NewContainer {
            id: given.filled("id").map(str::to_owned),
            names: given.texts("name"),
            image: image.map(str::to_owned),
            metadata: input::metadata(given)?,
            mappings: maps::wanted(given)?,
            is_volatile,
            in_volatile_files: is_volatile,
            is_durable: !is_volatile,
            ..NewContainer::default()
        })
        .map_err(|error| Failure::of_image(image.unwrap_or_default(), error))?;
    objects::print_new(&*container, &container.id, &container.names, given, output)
}

/// `containers`.
fn list(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    if given.has("json") {
        let containers: Vec<_> = store.containers()?.iter().collect();
        output.json(&objects::records(&containers))?;
        return Ok(0);
    }
    for container in store.container_roster()?.iter() {
        output.line_of(&[container.id()])?;
        for name in container.names() {
            output.line_of(&["\tname: ", name])?;
        }
        for key in container.data_keys() {
            output.line_of(&["\tdata: ", key])?;
        }
    }
    Ok(0)
}

/// `container`.
fn examine(store: &Store, given: &Given, output: &mut Output) -> Outcome {
    let containers = store.containers()?;
    let find = |key: &String| {
        let by_layer = || containers.iter().find(|found| found.layer == *key);
        containers.find(key).or_else(by_layer)
    };
    let found: Vec<_> = given.operands.iter().filter_map(find).collect();
    let code = if found.len() == given.operands.len() {
        0
    } else {
        FAILED
    };
    if given.has("json") {
        output.json(&objects::records(&found))?;
        return Ok(code);
    }
    let images = store.images()?;
    for container in found {
        output.line(format_args!("ID: {}", container.id))?;
        for name in &container.names {
            output.line(format_args!("Name: {name}"))?;
        }
        output.line(format_args!("Image: {}", container.image))?;
        if let Some(image) = images.find_id(&container.image) {
            for name in &image.names {
                output.line(format_args!("Image name: {name}"))?;
            }
        }
        match size(store, &container) {
            Ok(size) => output.line(format_args!("Size: {size}"))?,
            Err(error) => {
                output.line(format_args!(
                    "Size unknown: {}",
                    super::failure::chain(&error)
                ))?;
            }
        }
        output.line(format_args!("Layer: {}", container.layer))?;
        for key in &container.big_data_names {
            output.line(format_args!("Data: {key}"))?;
        }
    }
    Ok(code)
}

/// Bytes of a container's layer, its data items, and what lies in its directories.
fn size(store: &Store, container: &ContainerRecord) -> Result<u64, Error> {
    let mut size = store.diff_size(&container.layer, None)?;
    size += container
        .big_data_sizes
        .values()
        .map(|size| size.unsigned_abs())
        .sum::<u64>();
    size += usage(&store.container_directory(&container.id)?)?;
    size += usage(&store.container_run_directory(&container.id)?)?;
    Ok(size)
}

/// Bytes of all files below a directory.
fn usage(dir: &Dir) -> Result<u64, Error> {
    let mut size = 0;
    let mut folders = vec![dir.try_clone()?];
    while let Some(folder) = folders.pop() {
        for entry in folder.list()? {
            let Some(stat) = folder.stat(&entry.name)? else {
                continue;
            };
            match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
                rustix::fs::FileType::Directory => folders.push(folder.open_dir(&entry.name)?),
                rustix::fs::FileType::RegularFile => size += stat.st_size.unsigned_abs(),
                _ => {}
            }
        }
    }
    Ok(size)
}
