//! The part of the NBD protocol that reads and writes one image at offsets, over a socket somebody else opened. Blocking.
//!
//! ```text
//! greeting ─▶ STRUCTURED_REPLY ─▶ SET_META_CONTEXT base:allocation, qemu:allocation-depth ─▶ GO ─▶ READ, WRITE, BLOCK_STATUS, FLUSH … ─▶ DISC
//! ```
//! One request at a time: what comes back is its answer, or the connection is given up. Nothing a server says makes more memory
//! be taken than was asked to be read.

use std::io::{self, Read, Write};
use std::ops::Range;

/// The longest answer to anything but a read: QEMU's is a mebibyte of stretches, and the number of their context.
const ANSWER_MAX: u32 = (1 << 20) + 4;
/// The most that is asked about at once, within what fits into the protocol's 32 bits.
const STATUS_MAX: u64 = 1 << 30;
/// The most that is read or written in one request.
const TRANSFER_MAX: usize = 16 << 20;

const GREETING: &[u8; 8] = b"NBDMAGIC";
const OPTION: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const SIMPLE: u32 = 0x6744_6698;
const STRUCTURED: u32 = 0x668e_33ef;

const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;

const OPT_GO: u32 = 7;
const OPT_STRUCTURED_REPLY: u32 = 8;
const OPT_SET_META_CONTEXT: u32 = 10;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_META_CONTEXT: u32 = 4;
const REP_ERROR: u32 = 1 << 31;

const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISC: u16 = 2;
const CMD_FLUSH: u16 = 3;
const CMD_BLOCK_STATUS: u16 = 7;
/// Of one stretch only.
const FLAG_ONE: u16 = 1 << 3;

const CHUNK_DONE: u16 = 1;
const CHUNK_DATA: u16 = 1;
const CHUNK_HOLE: u16 = 2;
const CHUNK_STATUS: u16 = 5;
const CHUNK_ERROR: u16 = 1 << 15;
const STATE_ZERO: u32 = 2;

const ALLOCATION: &[u8] = b"base:allocation";
const DEPTH: &[u8] = b"qemu:allocation-depth";

/// A connection to one image.
#[derive(Debug)]
pub struct Client<S> {
    stream: S,
    size: u64,
    /// The server answers in pieces, and says where zeros are.
    structured: bool,
    /// The server's number for `base:allocation`.
    allocation: Option<u32>,
    /// The server's number for `qemu:allocation-depth`.
    depth: Option<u32>,
    cookie: u64,
}

/// A stretch of an image that is all zeros, or may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How long it is.
    pub length: u64,
    /// Whether it is known to read as zeros.
    pub zero: bool,
}

impl<S: Read + Write> Client<S> {
    /// Speaks with a server that has one image, under the empty name.
    ///
    /// # Errors
    /// When it is no such server, or does not give the image.
    pub fn new(mut stream: S) -> io::Result<Self> {
        if &array::<8>(&mut stream)? != GREETING || &array::<8>(&mut stream)? != OPTION {
            return Err(broken("no NBD server answers"));
        }
        let flags = u16::from_be_bytes(array(&mut stream)?);
        if flags & FIXED_NEWSTYLE == 0 {
            return Err(broken("the NBD server is too old"));
        }
        stream.write_all(&u32::from(flags & (FIXED_NEWSTYLE | NO_ZEROES)).to_be_bytes())?;
        let mut client =
            Self { stream, size: 0, structured: false, allocation: None, depth: None, cookie: 0 };
        client.structured = client.option(OPT_STRUCTURED_REPLY, &[], |_, _| Ok(()))?;
        if client.structured {
            client.ask_for_contexts()?;
        }
        let mut size = None;
        let given = client.option(OPT_GO, &[0; 6], |kind, data| {
            // Of the export itself: its size and flags.
            if kind == REP_INFO && data.starts_with(&[0, 0]) {
                size = Some(u64::from_be_bytes(piece(data, 2)?));
            }
            Ok(())
        })?;
        client.size =
            size.filter(|_| given).ok_or_else(|| broken("the NBD server does not give the image"))?;
        Ok(client)
    }

    /// The image's size.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Fills the buffer with what is at `offset`.
    ///
    /// # Errors
    /// The server's, as the system's of the same number; or the connection's.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut at = offset;
        for piece in buffer.chunks_mut(TRANSFER_MAX) {
            self.request(CMD_READ, at, piece.len())?;
            if self.structured {
                self.take_pieces(at, piece)?;
            } else {
                self.simple()?;
                self.stream.read_exact(piece)?;
            }
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Writes at `offset`; it is on the disk after the next [`Client::flush`].
    ///
    /// # Errors
    /// As [`Client::read_at`]; a full disk among them.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut at = offset;
        for piece in data.chunks(TRANSFER_MAX) {
            self.request(CMD_WRITE, at, piece.len())?;
            self.stream.write_all(piece)?;
            self.done()?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Puts what was written on the disk.
    ///
    /// # Errors
    /// As [`Client::write_at`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.request(CMD_FLUSH, 0, 0)?;
        self.done()
    }

    /// What is at `offset`: a stretch that ends within `length`. Where the server cannot tell, all of it may not be zeros.
    ///
    /// # Errors
    /// As [`Client::read_at`].
    pub fn extent(&mut self, offset: u64, length: u64) -> io::Result<Extent> {
        let asked = length.min(STATUS_MAX);
        let Some(allocation) = self.allocation.filter(|_| asked > 0) else {
            return Ok(Extent { length, zero: false });
        };
        let mut found = None;
        self.status((allocation, FLAG_ONE), offset, asked, |length, state| {
            found.get_or_insert(Extent { length, zero: state & STATE_ZERO != 0 });
        })?;
        found.filter(|extent| extent.length > 0).ok_or_else(|| broken("the NBD server tells of nothing"))
    }

    /// Which parts of the image are in one of its `above` outermost files, and not only in what those stand on; in ascending order.
    /// None where the server cannot tell.
    ///
    /// # Errors
    /// As [`Client::read_at`].
    pub fn held_above(&mut self, above: u32) -> io::Result<Option<Vec<Range<u64>>>> {
        let Some(depth) = self.depth else { return Ok(None) };
        let mut held: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        while at < self.size {
            let start = at;
            self.status((depth, 0), start, (self.size - start).min(STATUS_MAX), |length, depth| {
                // Nought is in none of the files.
                if (1..=above).contains(&depth) {
                    match held.last_mut().filter(|last| last.end == at) {
                        Some(last) => last.end += length,
                        None => held.push(at..at + length),
                    }
                }
                at += length;
            })?;
            if at == start {
                return Err(broken("the NBD server tells of nothing"));
            }
        }
        Ok(Some(held))
    }

    /// What a context says of a part of the image, stretch by stretch; it may say less than was asked.
    fn status(
        &mut self,
        (context, flags): (u32, u16),
        offset: u64,
        length: u64,
        mut told: impl FnMut(u64, u32),
    ) -> io::Result<()> {
        self.command(CMD_BLOCK_STATUS, flags, offset, usize::try_from(length).unwrap_or(usize::MAX))?;
        self.chunks(|kind, data| {
            if kind != CHUNK_STATUS || u32::from_be_bytes(piece(data, 0)?) != context {
                return Ok(());
            }
            let mut left = length;
            for stretch in data.get(4..).unwrap_or_default().chunks(8) {
                // The last one may go beyond what was asked.
                let length = u64::from(u32::from_be_bytes(piece(stretch, 0)?)).min(left);
                told(length, u32::from_be_bytes(piece(stretch, 4)?));
                left -= length;
            }
            Ok(())
        })
    }

    /// Says that nothing more is wanted.
    pub fn leave(&mut self) {
        // A server that is gone already has heard it.
        let _ = self.request(CMD_DISC, 0, 0);
    }

    fn ask_for_contexts(&mut self) -> io::Result<()> {
        let contexts = [ALLOCATION, DEPTH];
        let mut query = vec![0; 4];
        query.extend(u32::try_from(contexts.len()).unwrap_or_default().to_be_bytes());
        for context in contexts {
            query.extend(u32::try_from(context.len()).unwrap_or_default().to_be_bytes());
            query.extend(context);
        }
        let (mut allocation, mut depth) = (None, None);
        let known = self.option(OPT_SET_META_CONTEXT, &query, |kind, data| {
            if kind == REP_META_CONTEXT {
                let number = u32::from_be_bytes(piece(data, 0)?);
                match data.get(4..) {
                    Some(ALLOCATION) => allocation = Some(number),
                    Some(DEPTH) => depth = Some(number),
                    _ => {}
                }
            }
            Ok(())
        })?;
        (self.allocation, self.depth) = if known { (allocation, depth) } else { (None, None) };
        Ok(())
    }

    /// Asks for an option; false when the server has it not.
    fn option(
        &mut self,
        option: u32,
        data: &[u8],
        mut told: impl FnMut(u32, &[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut message = OPTION.to_vec();
        message.extend(option.to_be_bytes());
        message.extend(u32::try_from(data.len()).unwrap_or_default().to_be_bytes());
        message.extend(data);
        self.stream.write_all(&message)?;
        loop {
            let magic = u64::from_be_bytes(array(&mut self.stream)?);
            let about = u32::from_be_bytes(array(&mut self.stream)?);
            let kind = u32::from_be_bytes(array(&mut self.stream)?);
            let length = u32::from_be_bytes(array(&mut self.stream)?);
            if magic != OPTION_REPLY || about != option {
                return Err(broken("the NBD server answers something else"));
            }
            let data = self.answer(length)?;
            match kind {
                REP_ACK => return Ok(true),
                kind if kind & REP_ERROR != 0 => return Ok(false),
                kind => told(kind, &data)?,
            }
        }
    }

    fn request(&mut self, command: u16, offset: u64, length: usize) -> io::Result<()> {
        self.command(command, 0, offset, length)
    }

    fn command(&mut self, command: u16, flags: u16, offset: u64, length: usize) -> io::Result<()> {
        self.cookie += 1;
        let length = u32::try_from(length).map_err(|_| broken("too much at once"))?;
        let mut message = REQUEST.to_be_bytes().to_vec();
        message.extend(flags.to_be_bytes());
        message.extend(command.to_be_bytes());
        message.extend(self.cookie.to_be_bytes());
        message.extend(offset.to_be_bytes());
        message.extend(length.to_be_bytes());
        self.stream.write_all(&message)
    }

    /// The answer to a request that gives nothing back, in either form.
    fn done(&mut self) -> io::Result<()> {
        if self.structured { self.chunks(|_, _| Ok(())) } else { self.simple() }
    }

    /// An answer without pieces.
    fn simple(&mut self) -> io::Result<()> {
        if u32::from_be_bytes(array(&mut self.stream)?) != SIMPLE {
            return Err(broken("the NBD server answers something else"));
        }
        self.simple_after_magic()
    }

    fn simple_after_magic(&mut self) -> io::Result<()> {
        let error = u32::from_be_bytes(array(&mut self.stream)?);
        self.is_mine()?;
        if error == 0 { Ok(()) } else { Err(refusal(error)) }
    }

    fn is_mine(&mut self) -> io::Result<()> {
        if u64::from_be_bytes(array(&mut self.stream)?) == self.cookie {
            Ok(())
        } else {
            Err(broken("the NBD server answers another request"))
        }
    }

    /// The head of a piece: whether it is the last, its kind and length. None after an answer without pieces.
    fn head(&mut self) -> io::Result<Option<(bool, u16, u32)>> {
        match u32::from_be_bytes(array(&mut self.stream)?) {
            SIMPLE => self.simple_after_magic().map(|()| None),
            STRUCTURED => {
                let flags = u16::from_be_bytes(array(&mut self.stream)?);
                let kind = u16::from_be_bytes(array(&mut self.stream)?);
                self.is_mine()?;
                let length = u32::from_be_bytes(array(&mut self.stream)?);
                Ok(Some((flags & CHUNK_DONE != 0, kind, length)))
            }
            _ => Err(broken("the NBD server answers something else")),
        }
    }

    /// Every piece of an answer that is not of a read.
    fn chunks(&mut self, mut told: impl FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut failed = None;
        while let Some((last, kind, length)) = self.head()? {
            let data = self.answer(length)?;
            if kind & CHUNK_ERROR != 0 {
                failed = Some(refusal(u32::from_be_bytes(piece(&data, 0)?)));
            } else {
                told(kind, &data)?;
            }
            if last {
                break;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The pieces of what was read at `offset`; each place once, or it was not all.
    fn take_pieces(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (mut filled, mut failed) = (0, None);
        while let Some((last, kind, length)) = self.head()? {
            match kind {
                CHUNK_DATA | CHUNK_HOLE => {
                    let at = u64::from_be_bytes(array(&mut self.stream)?);
                    let count = if kind == CHUNK_DATA {
                        length.checked_sub(8).ok_or_else(|| broken("a piece is too short"))?
                    } else {
                        u32::from_be_bytes(array(&mut self.stream)?)
                    };
                    let place = at
                        .checked_sub(offset)
                        .and_then(|start| usize::try_from(start).ok())
                        .and_then(|start| Some(start..start.checked_add(usize::try_from(count).ok()?)?))
                        .and_then(|range| buffer.get_mut(range))
                        .ok_or_else(|| broken("a piece is of another place"))?;
                    if kind == CHUNK_DATA {
                        self.stream.read_exact(place)?;
                    } else {
                        place.fill(0);
                    }
                    filled += place.len();
                }
                kind => {
                    let data = self.answer(length)?;
                    if kind & CHUNK_ERROR != 0 {
                        failed = Some(refusal(u32::from_be_bytes(piece(&data, 0)?)));
                    }
                }
            }
            if last {
                break;
            }
        }
        match failed {
            Some(error) => Err(error),
            None if filled == buffer.len() => Ok(()),
            None => Err(broken("a piece is missing")),
        }
    }

    fn answer(&mut self, length: u32) -> io::Result<Vec<u8>> {
        if length > ANSWER_MAX {
            return Err(broken("the NBD server says too much"));
        }
        let mut data = vec![0; usize::try_from(length).unwrap_or_default()];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }
}

fn array<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn piece<const N: usize>(data: &[u8], at: usize) -> io::Result<[u8; N]> {
    data.get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or_else(|| broken("the NBD server says too little"))
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// The protocol's numbers are those of Linux.
fn refusal(error: u32) -> io::Error {
    io::Error::from_raw_os_error(i32::try_from(error).unwrap_or(rustix::io::Errno::IO.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server says, one after the other; what it is told is thrown away.
    struct Said(io::Cursor<Vec<u8>>);

    impl Read for Said {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Said {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
        let mut said = OPTION_REPLY.to_be_bytes().to_vec();
        said.extend(option.to_be_bytes());
        said.extend(kind.to_be_bytes());
        said.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        said.extend(data);
        said
    }

    fn greeting() -> Vec<u8> {
        let mut said = GREETING.to_vec();
        said.extend(OPTION);
        said.extend(FIXED_NEWSTYLE.to_be_bytes());
        said
    }

    fn export(size: u64) -> Vec<u8> {
        let mut info = vec![0, 0];
        info.extend(size.to_be_bytes());
        info.extend([0, 1]);
        [reply(OPT_GO, REP_INFO, &info), reply(OPT_GO, REP_ACK, &[])].concat()
    }

    fn chunk(last: bool, kind: u16, data: &[u8]) -> Vec<u8> {
        let mut said = STRUCTURED.to_be_bytes().to_vec();
        said.extend(u16::from(last).to_be_bytes());
        said.extend(kind.to_be_bytes());
        said.extend(1_u64.to_be_bytes());
        said.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        said.extend(data);
        said
    }

    /// A client of a server with pieces and `base:allocation` as number 7, and what it says to the first request.
    fn client(answer: Vec<u8>) -> Client<Said> {
        let said = [
            greeting(),
            reply(OPT_STRUCTURED_REPLY, REP_ACK, &[]),
            reply(
                OPT_SET_META_CONTEXT,
                REP_META_CONTEXT,
                &[&[0, 0, 0, 7], b"base:allocation".as_slice()].concat(),
            ),
            reply(OPT_SET_META_CONTEXT, REP_ACK, &[]),
            export(4096),
            answer,
        ]
        .concat();
        Client::new(Said(io::Cursor::new(said))).unwrap()
    }

    fn at(offset: u64, rest: &[u8]) -> Vec<u8> {
        [&offset.to_be_bytes(), rest].concat()
    }

    #[test]
    fn pieces_and_holes_come_together_in_any_order() {
        let answer =
            [chunk(false, CHUNK_DATA, &at(102, b"cd")), chunk(true, CHUNK_HOLE, &at(100, &[0, 0, 0, 2]))]
                .concat();
        let mut client = client(answer);
        assert_eq!(client.size(), 4096);
        let mut buffer = [9; 4];
        client.read_at(100, &mut buffer).unwrap();
        assert_eq!(&buffer, b"\0\0cd");
    }

    #[test]
    fn what_is_missing_or_misplaced_is_no_content() {
        for answer in [
            chunk(true, CHUNK_DATA, &at(100, b"ab")),
            chunk(true, CHUNK_DATA, &at(99, b"abcd")),
            chunk(true, CHUNK_DATA, &at(98, b"abcdef")),
            chunk(true, CHUNK_DATA, b"abc"),
            chunk(true, CHUNK_HOLE, &at(100, &[255; 4])),
            SIMPLE.to_be_bytes().to_vec(),
            Vec::new(),
        ] {
            assert!(client(answer).read_at(100, &mut [0; 4]).is_err());
        }
    }

    #[test]
    fn a_refusal_has_its_number() {
        let full = chunk(true, CHUNK_ERROR | 1, &[0, 0, 0, 28, 0, 0]);
        assert_eq!(client(full).write_at(0, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn zeros_are_told_by_the_context_that_was_asked_for() {
        let status = |context: u8, state: u8| {
            chunk(true, CHUNK_STATUS, &[0, 0, 0, context, 0, 0, 2, 0, 0, 0, 0, state])
        };
        assert_eq!(client(status(7, 3)).extent(0, 4096).unwrap(), Extent { length: 512, zero: true });
        assert_eq!(client(status(7, 1)).extent(0, 100).unwrap(), Extent { length: 100, zero: false });
        assert!(client(status(8, 3)).extent(0, 4096).is_err());
    }

    #[test]
    fn what_cannot_be_told_of_layers_is_not_said() {
        assert!(client(Vec::new()).held_above(1).unwrap().is_none());
    }

    #[test]
    fn what_is_in_the_outer_files_is_told_in_one_piece_where_it_is_one() {
        let stretches = [(512_u32, 1_u32), (512, 2), (1024, 0), (512, 3), (512, 2), (9999, 2)];
        let mut data = 8_u32.to_be_bytes().to_vec();
        for (length, depth) in stretches {
            data.extend(length.to_be_bytes());
            data.extend(depth.to_be_bytes());
        }
        let mut both = client(chunk(true, CHUNK_STATUS, &data));
        both.depth = Some(8);
        assert_eq!(both.held_above(2).unwrap().unwrap(), [0..1024, 2560..4096]);
        let mut mute = client(chunk(true, CHUNK_STATUS, &8_u32.to_be_bytes()));
        mute.depth = Some(8);
        assert!(mute.held_above(2).is_err());
    }

    #[test]
    fn an_old_or_other_server_is_refused_and_a_plain_one_is_not() {
        assert!(Client::new(Said(io::Cursor::new(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()))).is_err());
        let mut old = greeting();
        old.truncate(16);
        old.extend([0, 0]);
        assert!(Client::new(Said(io::Cursor::new(old))).is_err());
        let mut answer = SIMPLE.to_be_bytes().to_vec();
        answer.extend(0_u32.to_be_bytes());
        answer.extend(1_u64.to_be_bytes());
        answer.extend(b"ab");
        let said = [greeting(), reply(OPT_STRUCTURED_REPLY, REP_ERROR | 1, &[]), export(2), answer].concat();
        let mut plain = Client::new(Said(io::Cursor::new(said))).unwrap();
        assert_eq!(plain.extent(0, 2).unwrap(), Extent { length: 2, zero: false });
        let mut buffer = [0; 2];
        plain.read_at(0, &mut buffer).unwrap();
        assert_eq!(&buffer, b"ab");
    }
}
