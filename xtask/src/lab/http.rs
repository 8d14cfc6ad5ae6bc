//! A Pod's HTTP/1.1 service on one connection: who answers, and bulk data either way.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;

use serde::{Deserialize, Serialize};

const CHUNK: usize = 128 * 1024;

/// What a Pod says about itself and its client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pod: String,
    pub(super) client: std::net::SocketAddr,
}

/// Serves requests until the client closes or wants it closed.
///
/// `GET /bulk/N` sends N bytes; a request with a body has it read to its end; every other answer is an [`Identity`].
pub(super) fn serve(stream: TcpStream, identity: &Identity) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(CHUNK, stream);
    while let Some(request) = read_head(&mut reader)? {
        io::copy(&mut reader.by_ref().take(request.content_length), &mut io::sink())?;
        let mut words = request.first_line.split_whitespace().skip(1);
        let path = words.next().unwrap_or("/");
        let close = request.close || words.next() == Some("HTTP/1.0");
        let bulk = path.strip_prefix("/bulk/").and_then(|n| n.parse::<u64>().ok());
        let (kind, body) = match bulk {
            Some(_) => ("application/octet-stream", Vec::new()),
            None => ("application/json", [serde_json::to_vec(identity)?, b"\n".to_vec()].concat()),
        };
        let len = bulk.unwrap_or(body.len() as u64);
        let connection = if close { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\nConnection: {connection}\r\n\r\n"
        );
        writer.write_all(&[head.into_bytes(), body].concat())?;
        if let Some(bytes) = bulk {
            send_zeros(&mut writer, bytes)?;
        }
        if close {
            break;
        }
    }
    Ok(())
}

/// The head of a request or response.
pub(super) struct Head {
    pub(super) first_line: String,
    pub(super) content_length: u64,
    pub(super) close: bool,
}

/// Reads up to the empty line; `None` when the peer closed before a new one.
pub(super) fn read_head(reader: &mut BufReader<impl Read>) -> io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut head = Head { first_line: line.trim_end().to_owned(), content_length: 0, close: false };
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(Some(head)) };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.content_length = value.parse().map_err(io::Error::other)?,
            "connection" => head.close = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
}

/// Writes `bytes` zeros.
pub(super) fn send_zeros(writer: &mut impl Write, bytes: u64) -> io::Result<()> {
    let mut writer = io::BufWriter::with_capacity(CHUNK, writer);
    io::copy(&mut io::repeat(0).take(bytes), &mut writer)?;
    writer.flush()
}
