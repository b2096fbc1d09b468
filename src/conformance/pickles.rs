//! Lists of texts as pickles, written and read: the part of the format that a worker may answer texts by. The opcodes are
//! those of CPython's `Lib/pickletools.py`.

use bytes::BufMut;

use super::formats::{Unread, take};

/// These texts as one list, protocol 5.
pub(super) fn encode(texts: &[Vec<u8>]) -> Vec<u8> {
    // PROTO 5, EMPTY_LIST, MARK
    let mut pickle = vec![0x80, 5, b']', b'('];
    for text in texts {
        // BINUNICODE
        pickle.push(b'X');
        pickle.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
        pickle.extend_from_slice(text);
    }
    // APPENDS, STOP
    pickle.extend_from_slice(b"e.");
    pickle
}

#[derive(Clone)]
enum Item {
    Text(Vec<u8>),
    List(Vec<Item>),
    Mark,
}

/// The texts of a list.
pub(super) fn decode(pickle: &[u8], segments: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Unread> {
    let mut machine =
        Machine { rest: pickle, stack: Vec::new(), memo: Vec::new(), buffers: segments.into_iter() };
    while !machine.step()? {}
    match machine.stack.pop() {
        Some(Item::List(items)) => items.into_iter().map(text).collect(),
        _ => Err(Unread::Wrong("a pickle of something else than a list".to_owned())),
    }
}

fn text(item: Item) -> Result<Vec<u8>, Unread> {
    match item {
        Item::Text(text) => Ok(text),
        Item::List(_) | Item::Mark => Err(Unread::Wrong("a record that is no text".to_owned())),
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Item>,
    memo: Vec<Item>,
    buffers: std::vec::IntoIter<Vec<u8>>,
}

impl Machine<'_> {
    /// Does one opcode. Whether it was the last.
    fn step(&mut self) -> Result<bool, Unread> {
        let opcode = take(&mut self.rest, 1)?[0];
        match opcode {
            0x80 => drop(take(&mut self.rest, 1)?),
            0x95 => drop(take(&mut self.rest, 8)?),
            b']' => self.stack.push(Item::List(Vec::new())),
            b'(' => self.stack.push(Item::Mark),
            // Of texts: SHORT_BINUNICODE, BINUNICODE, BINUNICODE8; of bytes likewise.
            0x8c | b'C' => self.text(1)?,
            b'X' | b'B' => self.text(4)?,
            0x8d | 0x8e | 0x96 => self.text(8)?,
            0x97 => {
                let buffer = self.buffers.next();
                self.stack.push(Item::Text(buffer.ok_or_else(|| wrong("more buffers than segments"))?));
            }
            // READONLY_BUFFER
            0x98 => {}
            // MEMOIZE, and the older ways to say it.
            0x94 => self.memoize(),
            b'q' => {
                self.number(1)?;
                self.memoize();
            }
            b'r' => {
                self.number(4)?;
                self.memoize();
            }
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'a' => {
                let item = self.stack.pop().ok_or_else(|| wrong("an empty stack"))?;
                self.append(vec![item])?;
            }
            b'e' => {
                let mark = self.stack.iter().rposition(|item| matches!(item, Item::Mark));
                let items = self.stack.split_off(mark.ok_or_else(|| wrong("no mark"))?);
                self.append(items.into_iter().skip(1).collect())?;
            }
            b'.' => return Ok(true),
            other => {
                return Err(Unread::Unknown(format!(
                    "this tool does not read the pickle opcode {other:#04x}"
                )));
            }
        }
        Ok(false)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, Unread> {
        let number = take(&mut self.rest, bytes)?
            .iter()
            .rev()
            .fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        usize::try_from(number).map_err(|_| wrong("a length beyond all bounds"))
    }

    fn text(&mut self, bytes: usize) -> Result<(), Unread> {
        let length = self.number(bytes)?;
        let text = take(&mut self.rest, length)?.to_vec();
        self.stack.push(Item::Text(text));
        Ok(())
    }

    fn memoize(&mut self) {
        self.memo.extend(self.stack.last().cloned());
    }

    fn recall(&mut self, bytes: usize) -> Result<(), Unread> {
        let number = self.number(bytes)?;
        let item = self.memo.get(number).cloned().ok_or_else(|| wrong("what was not memoized"))?;
        self.stack.push(item);
        Ok(())
    }

    fn append(&mut self, items: Vec<Item>) -> Result<(), Unread> {
        match self.stack.last_mut() {
            Some(Item::List(list)) => list.extend(items),
            _ => return Err(wrong("something appended to what is no list")),
        }
        Ok(())
    }
}

fn wrong(what: &str) -> Unread {
    Unread::Wrong(format!("a pickle with {what}"))
}
