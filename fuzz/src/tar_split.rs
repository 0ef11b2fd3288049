//! Recipes: any bytes, and any text in their compression.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use strata::archive::tar_split::{Line, Reader, Writer, reassemble};

use super::plant;

const PAYLOAD: &[u8] = b"hello\n";

/// The first byte says whether the bytes are a recipe as they are, or its text.
pub fn run(data: &[u8]) {
    let Some((how, data)) = data.split_first() else {
        return;
    };
    let recipe = if how % 4 == 0 {
        data.to_vec()
    } else {
        compress(data)
    };
    let mut reader = Reader::new(recipe.as_slice());
    let mut lines = Vec::new();
    let whole = loop {
        match reader.next_line() {
            Ok(Some(line)) => lines.push(line),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let segments = lines
        .iter()
        .filter(|line| matches!(line, Line::Segment(bytes) if bytes.len() > 2));
    let raw_names = lines.iter().filter(
        |line| matches!(line, Line::File { name, .. } if std::str::from_utf8(name).is_err()),
    );
    plant::bug(segments.count() >= 1 && raw_names.count() >= 1);
    let mut out = Vec::new();
    let mut open = |name: &[u8]| match name.first() {
        Some(b'-') => Err(io::Error::from(io::ErrorKind::NotFound)),
        _ => Ok(PAYLOAD),
    };
    let rebuilt = reassemble(recipe.as_slice(), &mut open, &mut out);
    match rebuilt {
        Ok(length) => {
            assert!(whole, "a broken recipe rebuilds nothing");
            assert_eq!(length, out.len() as u64);
            write_again(&lines);
        }
        Err(_) if whole => write_again(&lines),
        Err(_) => {}
    }
}

fn compress(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// Our writer's lines say the same. It leaves empty segments out, joins none, and refuses names that a tree has once.
fn write_again(lines: &[Line]) {
    let mut writer = Writer::new(Vec::new());
    for line in lines {
        let written = match line {
            Line::Segment(bytes) => writer.segment(bytes),
            Line::File {
                name,
                size,
                checksum,
            } => writer.file(name, *size, *checksum),
        };
        if written.is_err() {
            return;
        }
    }
    let recipe = writer.finish().expect("memory takes everything");
    let mut reader = Reader::new(recipe.as_slice());
    let mut again = Vec::new();
    while let Some(line) = reader.next_line().expect("what we wrote can be read") {
        again.push(line);
    }
    let bytes = |lines: &[Line]| -> Vec<u8> {
        lines
            .iter()
            .flat_map(|line| match line {
                Line::Segment(bytes) => bytes.clone(),
                Line::File { name, size, .. } => [name.as_slice(), &size.to_le_bytes()].concat(),
            })
            .collect()
    };
    assert!(bytes(lines) == bytes(&again), "the recipe has changed");
}
