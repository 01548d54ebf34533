//! The smallest Redis client that is still binary safe: one command over a fresh connection.
//!
//! Tests look into a node with it, so it must share no code with the client that they test. It
//! speaks RESP2 over the server's Unix socket: a side door which works with TLS as well, which no
//! fault on the network reaches, and behind which only the server of that directory can stand.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A paused server does not answer: then the test fails rather than hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The user behind the side door; every server of the kit has it, whatever its other users are.
pub(crate) const ADMIN_USER: &str = "everlock-testkit";

/// What a Redis server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status such as `OK`.
    Status(String),
    /// An error, its code first.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A string of any bytes.
    Bytes(Vec<u8>),
    /// The absence of a value.
    Nil,
    /// Several replies.
    Array(Vec<Reply>),
}

impl Reply {
    /// The reply's elements; none if it isn't an array.
    pub fn into_array(self) -> Vec<Reply> {
        match self {
            Self::Array(elements) => elements,
            _ => Vec::new(),
        }
    }
}

/// Flat and readable: errors begin with `-`, nil is `(nil)`, the elements of an array have a line
/// each.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(text) => f.write_str(text),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::Nil => f.write_str("(nil)"),
            Self::Array(elements) => {
                for (i, element) in elements.iter().enumerate() {
                    if i > 0 {
                        f.write_str("\n")?;
                    }
                    element.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

/// Sends one command through the socket at `path` and reads its reply.
pub(crate) fn command(path: &Path, args: &[&[u8]]) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let mut request = encode(&[b"AUTH", ADMIN_USER.as_bytes(), b"-"]);
    request.extend(encode(args));
    stream.write_all(&request)?;
    let mut replies = BufReader::new(stream);
    match read(&mut replies)? {
        Reply::Status(_) => read(&mut replies),
        refused => Err(io::Error::other(format!("the kit's own user: {refused}"))),
    }
}

fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn read(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line
        .strip_suffix("\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let Some((kind, rest)) = line.split_at_checked(1) else {
        return Err(io::Error::other("an empty line is no reply"));
    };
    let number = || rest.parse::<i64>().map_err(io::Error::other);
    match kind {
        "+" => Ok(Reply::Status(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => Ok(Reply::Integer(number()?)),
        "$" => match usize::try_from(number()?) {
            Ok(len) => {
                let mut bytes = vec![0; len + 2];
                from.read_exact(&mut bytes)?;
                bytes.truncate(len);
                Ok(Reply::Bytes(bytes))
            }
            Err(_) => Ok(Reply::Nil),
        },
        "*" => match usize::try_from(number()?) {
            Ok(len) => (0..len)
                .map(|_| read(from))
                .collect::<io::Result<_>>()
                .map(Reply::Array),
            Err(_) => Ok(Reply::Nil),
        },
        _ => Err(io::Error::other(format!("not a RESP2 reply: {line:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> io::Result<Reply> {
        read(&mut &text[..])
    }

    #[test]
    fn nested_replies_are_read_and_shown_flat() {
        let reply = parsed(b"*5\r\n+OK\r\n:-2\r\n$2\r\n\r\n\r\n$-1\r\n*1\r\n-ERR no\r\n").unwrap();
        assert_eq!(reply.to_string(), "OK\n-2\n\r\n\n(nil)\n-ERR no");
        assert_eq!(reply.into_array()[2], Reply::Bytes(b"\r\n".to_vec()));
    }

    #[test]
    fn a_reply_that_was_cut_is_an_error() {
        for cut in [
            &b""[..],
            b"+OK",
            b"$5\r\nab",
            b"*2\r\n:1\r\n",
            b"\r\n",
            b"?\r\n",
        ] {
            assert!(parsed(cut).is_err(), "{cut:?}");
        }
    }
}
