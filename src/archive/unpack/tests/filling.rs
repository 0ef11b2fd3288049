//! Archives of so many files that a thread fills them.

use super::*;

/// More than are filled where they are read, by some batches.
const MANY: usize = 2000;

/// What the file of that number holds: some hold nothing, some more than a batch.
fn contents(number: usize) -> Vec<u8> {
    let len = [0, 1, 700, 9000, 300_000][if number % 199 == 4 { 4 } else { number % 4 }];
    (0..len).map(|at| (at * 7 + number) as u8).collect()
}

fn many() -> Archive {
    (0..MANY).fold(Archive::new(), |archive, number| {
        let contents = contents(number);
        let entry = Entry {
            size: contents.len() as u64,
            mode: [0o644, 0o4711, 0o200][number % 3],
            uid: (number % 5) as i64,
            modified: Time::from(1000 + number as i64),
            attributes: vec![(b"user.n".to_vec(), number.to_string().into_bytes())],
            ..entry(
                Kind::Regular,
                format!("d{}/{number}", number / 100).as_bytes(),
            )
        };
        let mut archive = archive.with(&entry);
        archive.0.data(&contents).unwrap();
        archive
    })
}

#[test]
fn many_files_become_what_few_do() {
    let place = Place::new();
    let summary = place.unpack(many()).unwrap();
    let total: usize = (0..MANY).map(|number| contents(number).len()).sum();
    assert_eq!(summary.size, total as u64);
    for number in 0..MANY {
        let name = format!("d{}/{number}", number / 100);
        assert!(place.read(&name) == contents(number), "{name}");
        let stat = place.stat(&name);
        let found = (stat.mode() & 0o7777, stat.uid(), stat.mtime());
        let mode = [0o644, 0o4711, 0o200][number % 3];
        let expected = (mode, (number % 5) as u32, 1000 + number as i64);
        assert_eq!(found, expected, "{name}");
        let file = place.root.open_file(&name).unwrap();
        let value = number.to_string().into_bytes();
        assert_eq!(file.attribute(b"user.n").unwrap(), Some(value), "{name}");
    }
    let whole = many().bytes();
    assert!(round_trip(&whole).unwrap() == whole);
}

#[test]
fn later_headers_win_over_files_under_way() {
    let place = Place::new();
    let hard = |name: &str, number: usize| Entry {
        link: format!("d19/{number}").into_bytes(),
        mode: 0o600,
        uid: 9,
        modified: Time::from(5),
        attributes: vec![(b"user.n".to_vec(), b"link".to_vec())],
        ..entry(Kind::HardLink, name.as_bytes())
    };
    let bytes = many()
        .with(&hard("h", MANY - 1))
        .file("twice", b"first")
        .file("twice", b"2nd")
        .bytes();
    let options = Options::new(OVERLAY);
    let summary = unpack::<Vec<u8>>(&*bytes, &place.root, &options, None).unwrap();
    let total: usize = (0..MANY).map(|number| contents(number).len()).sum();
    assert_eq!(summary.size, total as u64 + 3);
    let stat = place.stat(&format!("d19/{}", MANY - 1));
    assert_eq!(
        (stat.mode() & 0o7777, stat.uid(), stat.mtime()),
        (0o600, 9, 5)
    );
    assert_eq!(place.read("h"), contents(MANY - 1));
    assert_eq!(place.read("twice"), b"2nd");
}

#[test]
fn a_file_that_can_not_be_filled_ends_the_run() {
    // The kernel takes no longer values than 64 KiB.
    let broken = Entry {
        attributes: vec![(b"user.long".to_vec(), vec![b'x'; 70_000])],
        ..entry(Kind::Regular, b"broken")
    };
    for after in [0, 1, MANY] {
        let archive = (0..after).fold(many().with(&broken), |archive, number| {
            archive.file(&number.to_string(), b"after")
        });
        let error = Place::new().unpack(archive).unwrap_err();
        let UnpackError::System(error) = error else {
            panic!("{error}");
        };
        assert_eq!(error.errno(), Some(libc::E2BIG), "{after}: {error}");
    }
}
