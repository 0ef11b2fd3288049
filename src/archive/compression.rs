//! Compressed streams: recognised by their first bytes, decoded and encoded.

use std::fmt;
use std::io::{self, BufReader, Read, Write};

use super::window::{HEADER, window};

/// How a stream is compressed.
///
/// The numbers are those of layer records ([`Compression::number`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// bzip2; read only.
    Bzip2,
    /// gzip, one or more members.
    Gzip,
    /// xz; read only.
    Xz,
    /// Zstandard, one or more frames.
    Zstd,
}

/// How many bytes are read to recognise a stream: more than [`detect`] needs.
const START: usize = HEADER;

/// What an xz stream may ask for: its own highest preset needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

/// What a zstd frame may ask for as its window, as a power of two: 8 MiB, as much as every decoder should have by the
/// format's advice, and as the tools that make images ask for.
const ZSTD_WINDOW_LOG: u32 = 23;

/// What it may ask for if its first frame asks for more than that: 128 MiB, as `zstd --ultra` and `--long` do.
const ZSTD_LARGE_WINDOW_LOG: u32 = 27;

const INPUT_BUFFER: usize = 64 * 1024;

impl Compression {
    /// The number that stands for it in layer records.
    pub fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Bzip2 => 1,
            Self::Gzip => 2,
            Self::Xz => 3,
            Self::Zstd => 4,
        }
    }

    /// The one that `number` stands for in layer records.
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::None, Self::Bzip2, Self::Gzip, Self::Xz, Self::Zstd]
            .into_iter()
            .find(|compression| compression.number() == number)
    }

    /// The usual name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Tells from the first bytes of a stream how it is compressed.
pub fn detect(start: &[u8]) -> Compression {
    const MAGICS: [(&[u8], Compression); 4] = [
        (b"BZh", Compression::Bzip2),
        (b"\x1f\x8b\x08", Compression::Gzip),
        (b"\xfd7zXZ\0", Compression::Xz),
        (b"\x28\xb5\x2f\xfd", Compression::Zstd),
    ];
    MAGICS
        .into_iter()
        .find(|(magic, _)| start.starts_with(magic))
        .map_or(Compression::None, |(_, compression)| compression)
}

/// What lies within an [`io::Error`] when the bytes are no stream of their compression: the input could be read.
#[derive(Debug, thiserror::Error)]
#[error("the {compression} stream is damaged")]
pub struct Damaged {
    /// What the stream began as.
    pub compression: Compression,
    /// What the decoder says.
    #[source]
    pub source: io::Error,
}

/// The start of a stream that was read to recognise it, then the rest.
type Input<R> = BufReader<io::Chain<io::Cursor<Vec<u8>>, Watched<R>>>;

/// An input that remembers whether it failed itself.
struct Watched<R> {
    input: R,
    has_failed: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(bytes);
        self.has_failed |= read.is_err();
        read
    }
}

/// A stream that is decoded while it is read; see [`decoder`].
pub struct Decoder<R: Read> {
    inner: Inner<R>,
    is_large: bool,
}

enum Inner<R: Read> {
    None(Input<R>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<Input<R>>>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Input<R>>>),
    Xz(Box<liblzma::bufread::XzDecoder<Input<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Input<R>>>),
}

/// Recognises how `input` is compressed and decodes it.
///
/// Streams of several gzip members, xz streams, bzip2 streams or zstd frames are read to the end; what follows and
/// is none is an error. So is a zstd frame that needs more memory than 8 MiB, or, if the first one does, than 128 MiB; and
/// an xz stream that needs more than 128 MiB.
///
/// # Errors
/// When the first bytes can't be read or a decoder can't be set up.
pub fn decoder<R: Read>(mut input: R) -> io::Result<(Compression, Decoder<R>)> {
    let mut start = Vec::with_capacity(START);
    input.by_ref().take(START as u64).read_to_end(&mut start)?;
    let compression = detect(&start);
    let is_large = match compression {
        Compression::None | Compression::Bzip2 | Compression::Gzip => false,
        Compression::Xz => true,
        Compression::Zstd => window(&start).is_none_or(|window| window > 1 << ZSTD_WINDOW_LOG),
    };
    let input = Watched {
        input,
        has_failed: false,
    };
    let input = BufReader::with_capacity(INPUT_BUFFER, io::Cursor::new(start).chain(input));
    let inner = match compression {
        Compression::None => Inner::None(input),
        Compression::Bzip2 => Inner::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(input))),
        Compression::Gzip => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        Compression::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags)?;
            Inner::Xz(Box::new(liblzma::bufread::XzDecoder::new_stream(
                input, stream,
            )))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(match is_large {
                true => ZSTD_LARGE_WINDOW_LOG,
                false => ZSTD_WINDOW_LOG,
            })?;
            Inner::Zstd(Box::new(decoder))
        }
    };
    Ok((compression, Decoder { inner, is_large }))
}

impl<R: Read> Decoder<R> {
    /// True when it may need more than some 10 MiB of memory, up to 128 MiB, from its first read on.
    pub fn is_large(&self) -> bool {
        self.is_large
    }

    /// Reads what is left of the compressed input, so that a reader which hashes it has seen all.
    ///
    /// # Errors
    /// When the input can't be read.
    pub fn drain_input(&mut self) -> io::Result<u64> {
        io::copy(self.input().1, &mut io::sink())
    }

    fn input(&mut self) -> (Compression, &mut Input<R>) {
        match &mut self.inner {
            Inner::None(input) => (Compression::None, input),
            Inner::Bzip2(decoder) => (Compression::Bzip2, decoder.get_mut()),
            Inner::Gzip(decoder) => (Compression::Gzip, decoder.get_mut()),
            Inner::Xz(decoder) => (Compression::Xz, decoder.get_mut()),
            Inner::Zstd(decoder) => (Compression::Zstd, decoder.get_mut()),
        }
    }

    /// Tells bytes that can't be decoded from an input that can't be read.
    fn explain(&mut self, source: io::Error) -> io::Error {
        let (compression, input) = self.input();
        match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::Interrupted => source,
            _ if input.get_ref().get_ref().1.has_failed => source,
            _ => io::Error::new(
                io::ErrorKind::InvalidData,
                Damaged {
                    compression,
                    source,
                },
            ),
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.inner {
            Inner::None(input) => input.read(bytes),
            Inner::Bzip2(decoder) => decoder.read(bytes),
            Inner::Gzip(decoder) => decoder.read(bytes),
            Inner::Xz(decoder) => decoder.read(bytes),
            Inner::Zstd(decoder) => decoder.read(bytes),
        };
        read.map_err(|error| self.explain(error))
    }
}

impl<R: Read> fmt::Debug for Decoder<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Decoder")
    }
}

/// A stream that is encoded while it is written; [`Encoder::finish`] ends it.
pub struct Encoder<W: Write>(Output<W>);

enum Output<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// Compresses into `out`, at the usual level of the format.
///
/// # Errors
/// Of kind `Unsupported` for bzip2 and xz, which are only read.
pub fn encoder<W: Write>(compression: Compression, out: W) -> io::Result<Encoder<W>> {
    Ok(Encoder(match compression {
        Compression::None => Output::None(out),
        Compression::Gzip => Output::Gzip(flate2::write::GzEncoder::new(
            out,
            flate2::Compression::new(6),
        )),
        Compression::Zstd => Output::Zstd(zstd::stream::write::Encoder::new(out, 3)?),
        Compression::Bzip2 | Compression::Xz => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("compressing with {compression} is not supported"),
            ));
        }
    }))
}

impl<W: Write> Encoder<W> {
    /// Writes the end of the compressed stream; without it the stream is truncated.
    ///
    /// # Errors
    /// When the output can't be written.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Output::None(out) => Ok(out),
            Output::Gzip(encoder) => encoder.finish(),
            Output::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Output::None(out) => out.write(bytes),
            Output::Gzip(encoder) => encoder.write(bytes),
            Output::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Output::None(out) => out.flush(),
            Output::Gzip(encoder) => encoder.flush(),
            Output::Zstd(encoder) => encoder.flush(),
        }
    }
}

impl<W: Write> fmt::Debug for Encoder<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Encoder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Bzip2 => {
                let mut encoder =
                    bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            _ => {
                let mut encoder = encoder(compression, Vec::new()).unwrap();
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    #[test]
    fn every_format_is_recognised_and_read_over_several_members() {
        for number in 0..=4 {
            let compression = Compression::from_number(number).unwrap();
            let mut stream = encoded(compression, b"hello ");
            stream.extend(encoded(compression, b"world"));
            let (found, mut decoder) = decoder(&*stream).unwrap();
            assert_eq!(found, compression);
            let mut text = String::new();
            decoder.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello world", "{compression}");
            assert_eq!(decoder.drain_input().unwrap(), 0);
        }
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        for number in 1..=4 {
            let compression = Compression::from_number(number).unwrap();
            let mut stream = encoded(compression, &[7; 1000]);
            stream.truncate(stream.len() - 3);
            let (_, mut decoder) = decoder(&*stream).unwrap();
            let error = decoder.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::UnexpectedEof,
                "{compression}: {error}"
            );
        }
    }

    #[test]
    fn damage_is_told_from_an_input_that_fails() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _bytes: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("torn"))
            }
        }
        for number in 1..=4 {
            let compression = Compression::from_number(number).unwrap();
            // Bytes that no compression makes few.
            let bytes: Vec<u8> = (0..1000_u32)
                .map(|number| (number.wrapping_mul(0x9E37_79B9) >> 24) as u8)
                .collect();
            let whole = encoded(compression, &bytes);
            // To gzip most other bytes are data without an end.
            let damaged = [&whole[..8], &[0xff; 100]].concat();
            let (found, mut decoder) = decoder(&*damaged).unwrap();
            assert_eq!(found, compression);
            let error = decoder.read_to_end(&mut Vec::new()).unwrap_err();
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            let damage: &Damaged = inner.expect("the bytes are damaged");
            assert_eq!(damage.compression, compression);
            let (_, mut decoder) = super::decoder(whole[..START].chain(Broken)).unwrap();
            let error = decoder.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.to_string(), "torn", "{compression}");
        }
    }

    #[test]
    fn short_and_empty_streams_are_not_compressed() {
        for bytes in [&b""[..], b"B", b"\x1f\x8b"] {
            let (found, mut decoder) = decoder(bytes).unwrap();
            assert_eq!(found, Compression::None);
            let mut all = Vec::new();
            decoder.read_to_end(&mut all).unwrap();
            assert_eq!(all, bytes);
        }
    }

    #[test]
    fn an_xz_stream_that_wants_too_much_memory_is_refused() {
        let mut options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
        options.dict_size(512 << 20);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        // Only the header's claim matters: patch nothing, let the encoder write it.
        let stream =
            liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32);
        let Ok(stream) = stream else { return };
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(b"x").unwrap();
        let bytes = encoder.finish().unwrap();
        let (_, mut decoder) = decoder(&*bytes).unwrap();
        assert!(decoder.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn zstd_windows_are_bounded_by_the_first_frame_and_large_ones_are_told() {
        let frame = |log| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            encoder.window_log(log).unwrap();
            encoder.write_all(&[7; 1000]).unwrap();
            encoder.finish().unwrap()
        };
        let read = |stream: &[u8]| {
            let (_, mut decoder) = decoder(stream).unwrap();
            let read = decoder.read_to_end(&mut Vec::new());
            (decoder.is_large(), read.ok())
        };
        assert_eq!(read(&frame(23)), (false, Some(1000)));
        assert_eq!(read(&frame(24)), (true, Some(1000)));
        assert_eq!(read(&frame(27)), (true, Some(1000)));
        assert_eq!(read(&frame(28)), (true, None));
        let two = |first, second| [frame(first), frame(second)].concat();
        assert_eq!(read(&two(24, 20)), (true, Some(2000)));
        assert_eq!(read(&two(20, 24)), (false, None));
        // What may stand before the first frame says nothing.
        let skipped = [&b"\x50\x2a\x4d\x18\x04\0\0\0skip"[..], &frame(24)].concat();
        assert_eq!(detect(&skipped), Compression::None);
    }
}
