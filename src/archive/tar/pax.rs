//! The records of PAX headers: `length key=value`, one a line.

use super::{Entry, Time};

const XATTR: &[u8] = b"SCHILY.xattr.";

/// The records that this program understands, later ones replacing earlier ones.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<i64>,
    uid: Option<i64>,
    gid: Option<i64>,
    modified: Option<Time>,
    accessed: Option<Time>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

/// The records of sparse files, versions 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) version: (Option<Vec<u8>>, Option<Vec<u8>>),
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<i64>,
    pub(super) real_size: Option<i64>,
    /// Offsets and lengths in turn.
    pub(super) map: Vec<i64>,
    pub(super) has_map: bool,
}

/// Splits one record off; `None` when it is malformed.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

pub(super) fn decimal(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.parse().ok()
}

fn time(bytes: &[u8]) -> Option<Time> {
    let (whole, fraction) = match bytes.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&bytes[..dot], &bytes[dot + 1..]),
        None => (bytes, &[][..]),
    };
    let seconds = decimal(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds = 0;
    for index in 0..9 {
        let digit = fraction.get(index).map_or(0, |digit| digit - b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    // A fraction of a negative time leads away from zero.
    Some(if whole.starts_with(b"-") && nanoseconds != 0 {
        Time {
            seconds: seconds.checked_sub(1)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        }
    } else {
        Time {
            seconds,
            nanoseconds,
        }
    })
}

impl Records {
    /// # Errors
    /// What is wrong with the records.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or("a PAX record is malformed")?;
            records
                .take(key, value)
                .ok_or("the value of a PAX record is invalid")?;
            bytes = rest;
        }
        if !records.sparse.map.len().is_multiple_of(2) {
            return Err("a PAX sparse map is incomplete");
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let is_name = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
        if key.is_empty() || key.contains(&0) || (is_name && value.contains(&0)) {
            return None;
        }
        if let Some(name) = key.strip_prefix(XATTR) {
            self.attributes.retain(|(other, _)| other != name);
            if !name.is_empty() {
                self.attributes.push((name.to_vec(), value.to_vec()));
            }
            return Some(());
        }
        let sparse = &mut self.sparse;
        // An empty value takes the record back.
        let text = Some(value).filter(|value| !value.is_empty());
        let owned = || text.map(<[u8]>::to_vec);
        let number = || match text {
            Some(text) => decimal(text).map(Some),
            None => Some(None),
        };
        let moment = || match text {
            Some(text) => time(text).map(Some),
            None => Some(None),
        };
        match key {
            b"path" => self.path = owned(),
            b"linkpath" => self.link = owned(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => self.modified = moment()?,
            b"atime" => self.accessed = moment()?,
            b"ctime" => drop(moment()?),
            b"GNU.sparse.major" => sparse.version.0 = owned(),
            b"GNU.sparse.minor" => sparse.version.1 = owned(),
            b"GNU.sparse.name" => sparse.name = owned(),
            b"GNU.sparse.size" => sparse.size = number()?,
            b"GNU.sparse.realsize" => sparse.real_size = number()?,
            // Version 0.0 repeats these two in turn.
            b"GNU.sparse.offset" => {
                sparse.map.len().is_multiple_of(2).then_some(())?;
                sparse.map.push(decimal(value)?);
                sparse.has_map = true;
            }
            b"GNU.sparse.numbytes" => {
                (sparse.map.len() % 2 == 1).then_some(())?;
                sparse.map.push(decimal(value)?);
            }
            b"GNU.sparse.map" => {
                sparse.map = match text {
                    Some(text) => text
                        .split(|byte| *byte == b',')
                        .map(decimal)
                        .collect::<Option<_>>()?,
                    None => Vec::new(),
                };
                sparse.has_map = text.is_some();
            }
            _ => {}
        }
        Some(())
    }

    /// Overrides what the header said.
    pub(super) fn apply(&mut self, entry: &mut Entry) {
        if let Some(path) = self.path.take() {
            entry.name = path;
        }
        if let Some(link) = self.link.take() {
            entry.link = link;
        }
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.modified = self.modified.unwrap_or(entry.modified);
        entry.accessed = self.accessed.or(entry.accessed);
        entry.attributes = std::mem::take(&mut self.attributes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_by_their_length() {
        let records =
            Records::parse(b"12 path=a\nb\n20 mtime=-1.25 \n".get(..12).unwrap()).unwrap();
        assert_eq!(records.path.unwrap(), b"a\nb");
        let records = Records::parse(b"30 mtime=1350244992.023960108\n").unwrap();
        assert_eq!(
            records.modified.unwrap(),
            Time {
                seconds: 1_350_244_992,
                nanoseconds: 23_960_108
            }
        );
        for bad in [
            &b"5 a=b\n"[..],
            b"7 a=b\n",
            b"x a=b\n",
            b"6 ab\n\n",
            b"0 a=b\n",
            b"9 size=x\n",
            b"5 =b\n",
            b"11 path=a\0\n",
            b"-6 a=b\n",
        ] {
            assert!(Records::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fractions_of_negative_times_lead_away_from_zero() {
        let expected = Time {
            seconds: -2,
            nanoseconds: 750_000_000,
        };
        assert_eq!(time(b"-1.25"), Some(expected));
        assert_eq!(time(b"1."), Some(Time::from(1)));
        assert_eq!(time(b"1.x"), None);
    }
}
