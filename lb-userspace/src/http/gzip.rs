//! Answers in gzip (RFC 1952), for those who accept it: a scrape is a tenth of its size then.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, VARY};
use http::{HeaderValue, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;

/// What is answered.
pub type Answer = Response<Full<Bytes>>;

/// Shorter bodies stay as they are.
const WORTH_IT: usize = 1024;

/// Whether a header `Accept-Encoding` allows it.
pub(super) fn is_accepted(header: &str) -> bool {
    header.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let refused = |part: &str| part.replace(' ', "").strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        parts.next() == Some("gzip") && !parts.any(refused)
    })
}

/// The answer with its body in gzip, if that is worth it.
pub(super) async fn zipped(answer: Answer) -> Answer {
    let (mut head, body) = answer.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes);
    if body.len() < WORTH_IT {
        return Response::from_parts(head, Full::new(body));
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Into memory: it does not fail.
    let Ok(zipped) = encoder.write_all(&body).and_then(|()| encoder.finish()) else {
        return Response::from_parts(head, Full::new(body));
    };
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    Response::from_parts(head, Full::new(Bytes::from(zipped)))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_accepted() {
        for (header, is) in
            [("gzip", true), ("deflate, gzip;q=0.5", true), ("gzip;q=0", false), ("br", false), ("", false)]
        {
            assert_eq!(is_accepted(header), is, "{header}");
        }
    }

    #[tokio::test]
    async fn long_answers_are_zipped_and_short_ones_not() {
        let short = zipped(Response::new(Full::new(Bytes::from("ok")))).await;
        assert!(!short.headers().contains_key(CONTENT_ENCODING));
        let text = "sluice_drops_total 0\n".repeat(1000);
        let long = zipped(Response::new(Full::new(Bytes::from(text.clone())))).await;
        assert_eq!(long.headers()[CONTENT_ENCODING], "gzip");
        let body = long.into_body().collect().await.unwrap().to_bytes();
        let mut read = String::new();
        GzDecoder::new(&*body).read_to_string(&mut read).unwrap();
        assert!(read == text && body.len() * 10 < text.len());
    }
}
