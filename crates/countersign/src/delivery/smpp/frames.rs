//! PDUs on a connection: cut from the stream, and written to it.

use bytes::{Buf, BufMut, BytesMut};
use rusmpp::{
    Command, CommandId,
    decode::DecodeWithLength,
    encode::{Length, owned::Encode},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The octets of a PDU's length, id, status and sequence number.
const HEADER: usize = 16;

/// The longest PDU we take. Reports are far shorter; the limit keeps a confused peer from filling our memory.
const LONGEST: usize = 64 * 1024;

/// What came from the centre.
pub(super) enum Arrival {
    /// A PDU.
    Command(Box<Command>),
    /// A PDU whose body we cannot read.
    Unreadable {
        /// What it is.
        id: CommandId,
        /// Its number.
        sequence: u32,
    },
}

/// Reads PDUs from a stream. A call that is given up loses nothing.
pub(super) struct Frames<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Reads from `stream`.
    pub(super) fn from(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Waits for the next PDU; the error says why there will be none.
    pub(super) async fn next(&mut self) -> Result<Arrival, String> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(read(frame));
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err("the message centre closed the connection".into()),
                Ok(_) => {}
                Err(error) => return Err(format!("read from the message centre: {}", error.kind())),
            }
        }
    }

    /// Takes the next whole PDU off the buffer.
    fn take(&mut self) -> Result<Option<BytesMut>, String> {
        let Some(length) = self.buffer.first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if !(HEADER..=LONGEST).contains(&length) {
            return Err("the message centre sent something that is not SMPP".into());
        }
        if self.buffer.len() < length {
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(length)))
    }
}

fn read(mut frame: BytesMut) -> Arrival {
    frame.advance(4);
    let mut header = &frame[..HEADER - 4];
    let (id, _status, sequence) = (header.get_u32(), header.get_u32(), header.get_u32());
    let length = frame.len();
    match Command::decode(&mut frame, length) {
        Ok((command, _)) => Arrival::Command(Box::new(command)),
        Err(_) => Arrival::Unreadable { id: id.into(), sequence },
    }
}

/// Writes a PDU to a stream.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), command: &Command) -> std::io::Result<()> {
    let length = 4 + command.length();
    let mut frame = BytesMut::with_capacity(length);
    frame.put_u32(u32::try_from(length).expect("our PDUs are short"));
    command.encode(&mut frame);
    stream.write_all(&frame).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusmpp::{CommandStatus, Pdu};

    fn written(pdu: Pdu) -> Vec<u8> {
        let command = Command::new(CommandStatus::EsmeRok, 7, pdu);
        let mut frame = BytesMut::new();
        frame.put_u32(u32::try_from(4 + command.length()).expect("short"));
        command.encode(&mut frame);
        frame.to_vec()
    }

    async fn arrivals(octets: Vec<u8>) -> Vec<String> {
        let mut frames = Frames::from(octets.as_slice());
        let mut found = Vec::new();
        loop {
            match frames.next().await {
                Ok(Arrival::Command(command)) => found.push(format!("{:?}", command.id())),
                Ok(Arrival::Unreadable { id, sequence }) => {
                    found.push(format!("unreadable {id:?} {sequence}"))
                }
                Err(reason) => {
                    found.push(reason);
                    return found;
                }
            }
        }
    }

    #[tokio::test]
    async fn pdus_are_cut_from_the_stream() {
        let mut octets = written(Pdu::EnquireLink);
        octets.extend(written(Pdu::UnbindResp));
        octets.extend([0, 0]);

        assert_eq!(
            arrivals(octets).await,
            ["EnquireLink", "UnbindResp", "the message centre closed the connection"]
        );
    }

    #[tokio::test]
    async fn one_that_cannot_be_read_does_not_spoil_the_next() {
        let mut octets = vec![0, 0, 0, 18, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9, 0x41, 0x41];
        octets.extend(written(Pdu::EnquireLink));

        assert_eq!(arrivals(octets).await[..2], ["unreadable DeliverSm 9", "EnquireLink"]);
    }

    #[tokio::test]
    async fn another_protocol_is_noticed() {
        let expected = ["the message centre sent something that is not SMPP"];

        assert_eq!(arrivals(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await, expected);
        assert_eq!(arrivals(vec![0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await, expected);
    }
}
