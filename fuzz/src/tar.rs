//! Archives: read, every byte accounted for, and written again.

use strata::archive::tar::{Entry, Kind, Reader, Writer};

use super::{archive, plant};

/// The first byte says whether headers get the sums that they should have.
pub fn run(data: &[u8]) {
    let Some((how, data)) = data.split_first() else {
        return;
    };
    let mut data = data.to_vec();
    if how % 4 != 0 {
        archive::mend(&mut data);
    }
    let mut reader = Reader::new(data.as_slice());
    let mut seen = Vec::new();
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(_) => return assert!(data.starts_with(&seen), "bytes are made up"),
        };
        seen.extend_from_slice(reader.raw());
        let payload = seen.len();
        loop {
            match reader.data() {
                Ok([]) => break,
                Ok(bytes) => seen.extend_from_slice(bytes),
                Err(_) => return assert!(data.starts_with(&seen), "bytes are made up"),
            }
        }
        // Only a number in base 256 is as large.
        plant::bug(entry.uid > 1 << 40);
        check(&entry);
        write_again(&entry, &seen[payload..]);
    }
    seen.extend_from_slice(reader.raw());
    while let Ok(bytes) = reader.trailing() {
        if bytes.is_empty() {
            break;
        }
        seen.extend_from_slice(bytes);
    }
    assert_eq!(
        seen.len() as u64,
        reader.offset(),
        "the offset is what was handed out"
    );
    assert!(seen == data, "every byte is accounted for");
}

fn check(entry: &Entry) {
    assert!(
        !entry.name.contains(&0) && !entry.link.contains(&0),
        "a NUL"
    );
    assert!(entry.mode <= 0o7777, "more than a mode: {:o}", entry.mode);
    let mut end = 0;
    for piece in entry.sparse.iter().flatten() {
        assert!(piece.offset >= end, "pieces ascend: {entry:?}");
        end = piece.offset + piece.len;
    }
    assert!(end <= entry.size, "a piece beyond the end: {entry:?}");
}

/// What our writer makes of an entry is read as the same.
fn write_again(entry: &Entry, payload: &[u8]) {
    if entry.sparse.is_some()
        || entry.kind == Kind::GlobalHeader
        || entry.size != payload.len() as u64
    {
        return;
    }
    let mut writer = Writer::new(Vec::new());
    if writer.entry(entry).is_err() || writer.data(payload).is_err() {
        return;
    }
    let Ok(written) = writer.finish() else { return };
    let mut reader = Reader::new(written.as_slice());
    let again = reader
        .next_entry()
        .expect("what we wrote can be read")
        .expect("a member");
    assert_eq!(again.name, entry.name);
    assert_eq!(again.link, entry.link);
    assert_eq!(
        (again.mode, again.uid, again.gid),
        (entry.mode, entry.uid, entry.gid)
    );
    assert_eq!(again.size, entry.size);
}
