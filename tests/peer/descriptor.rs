//! Our interface definition against the published one, as their descriptors have them.

use std::collections::BTreeSet;

use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, MessageDescriptor,
};

use crate::support::tool::Tool;

const OURS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
const PACKAGE: &str = "csi.v1";

/// The published descriptor, as a program prints it that was built with the Go module of the interface.
fn published() -> Vec<u8> {
    Tool::new("csi-descriptor").ok().stdout
}

/// Options that the definition invents, as text.
fn options(options: &DynamicMessage) -> String {
    let mut all: Vec<_> = options
        .extensions()
        .map(|(extension, value)| format!(" [{}={value}]", extension.full_name()))
        .collect();
    all.sort();
    all.concat()
}

fn describe_message(message: &MessageDescriptor, lines: &mut BTreeSet<String>) {
    if message.is_map_entry() {
        return;
    }
    let name = message.full_name();
    lines.insert(format!("message {name}{}", options(&message.options())));
    for field in message.fields() {
        let label = match field.cardinality() {
            _ if field.is_map() => "map",
            Cardinality::Repeated => "repeated",
            Cardinality::Optional => "optional",
            Cardinality::Required => "required",
        };
        let kind = if let Some(entry) = field.kind().as_message().filter(|_| field.is_map()) {
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            format!("{:?} to {:?}", key.kind(), value.kind())
        } else {
            format!("{:?}", field.kind())
        };
        let oneof = field
            .containing_oneof()
            .map(|oneof| format!(" in {}", oneof.name()))
            .unwrap_or_default();
        lines.insert(format!(
            "field {name}.{} {} {label} {kind} json {} presence {}{oneof}{}",
            field.name(),
            field.number(),
            field.json_name(),
            field.supports_presence(),
            options(&field.options())
        ));
    }
    for child in message.child_messages() {
        describe_message(&child, lines);
    }
    for child in message.child_enums() {
        describe_enum(&child, lines);
    }
}

fn describe_enum(enumeration: &EnumDescriptor, lines: &mut BTreeSet<String>) {
    let name = enumeration.full_name();
    lines.insert(format!("enum {name}{}", options(&enumeration.options())));
    for value in enumeration.values() {
        lines.insert(format!(
            "value {name}.{} {}{}",
            value.name(),
            value.number(),
            options(&value.options())
        ));
    }
}

/// Everything that is on the wire, a line each.
fn describe(bytes: &[u8]) -> BTreeSet<String> {
    let pool = DescriptorPool::decode(bytes).unwrap();
    let mut lines = BTreeSet::new();
    for file in pool.files().filter(|file| file.package_name() == PACKAGE) {
        lines.insert(format!("syntax {:?}", file.syntax()));
        for service in file.services() {
            let name = service.full_name();
            lines.insert(format!("service {name}{}", options(&service.options())));
            for method in service.methods() {
                lines.insert(format!(
                    "method {name}.{} {} {} to {} {}{}",
                    method.name(),
                    method.is_client_streaming(),
                    method.input().full_name(),
                    method.is_server_streaming(),
                    method.output().full_name(),
                    options(&method.options())
                ));
            }
        }
        for message in file.messages() {
            describe_message(&message, &mut lines);
        }
        for enumeration in file.enums() {
            describe_enum(&enumeration, &mut lines);
        }
        for extension in file.extensions() {
            lines.insert(format!(
                "extension {} of {} {} {:?}",
                extension.full_name(),
                extension.containing_message().full_name(),
                extension.number(),
                extension.kind()
            ));
        }
    }
    lines
}

#[test]
fn our_definition_is_the_published_one_on_the_wire() {
    let ours = describe(OURS);
    let published = describe(&published());
    assert!(published.len() > 400, "only {} lines", published.len());
    let secrets = "csi_secret=true";
    assert!(
        published.iter().any(|line| line.contains(secrets)),
        "options were not read"
    );
    let missing: Vec<_> = published.difference(&ours).collect();
    let added: Vec<_> = ours.difference(&published).collect();
    assert!(
        missing.is_empty() && added.is_empty(),
        "missing: {missing:#?}\nadded: {added:#?}"
    );
}
