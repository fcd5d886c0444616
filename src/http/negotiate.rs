//! Content negotiation between the two media types of GraphQL over HTTP, and the formats of a
//! stream of results (RFC 9110, section 12.5.1).

use axum::http::{HeaderMap, header};

use super::media_range::MediaRange;

/// The media type of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    /// `application/graphql-response+json`: the HTTP status says whether the request was executed.
    GraphqlResponse,
    /// `application/json`: for older clients, which expect 200 for every well-formed request.
    Json,
}

impl MediaType {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }

    fn essence(self) -> (&'static str, &'static str) {
        match self {
            Self::GraphqlResponse => ("application", "graphql-response+json"),
            Self::Json => ("application", "json"),
        }
    }
}

fn ranges(headers: &HeaderMap) -> impl Iterator<Item = MediaRange> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(MediaRange::list)
}

/// The best acceptable type, or `None` if neither type is acceptable. A request without a usable
/// media range has no preference, and gets `application/json`.
pub(super) fn negotiate(headers: &HeaderMap) -> Option<MediaType> {
    let ranges: Vec<_> = ranges(headers).collect();
    if ranges.is_empty() {
        return Some(MediaType::Json);
    }
    let quality = |media: MediaType| {
        let fitting = ranges.iter().filter(|range| covers(range, media));
        fitting.max_by_key(|range| precision(range)).map_or(0, quality)
    };
    let (modern, older) = (quality(MediaType::GraphqlResponse), quality(MediaType::Json));
    match (modern, older) {
        (0, 0) => None,
        (modern, older) if modern > older => Some(MediaType::GraphqlResponse),
        (modern, older) if modern == older && named(&ranges) => Some(MediaType::GraphqlResponse),
        _ => Some(MediaType::Json),
    }
}

/// The format of a stream of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamFormat {
    /// Server-sent events.
    Events,
    /// A multipart response, as Apollo's clients accept it.
    Multipart,
}

/// The format of streams that the client explicitly accepts.
pub(super) fn stream_format(headers: &HeaderMap) -> Option<StreamFormat> {
    let acceptable: Vec<_> = ranges(headers).filter(|range| quality(range) > 0).collect();
    if acceptable.iter().any(|range| range.is("text", "event-stream")) {
        Some(StreamFormat::Events)
    } else {
        acceptable.iter().any(is_multipart).then_some(StreamFormat::Multipart)
    }
}

/// Whether a range is that of Apollo's protocol for subscriptions.
fn is_multipart(range: &MediaRange) -> bool {
    range.is("multipart", "mixed")
        && range.parameter("subscriptionspec") == Some("1.0")
        && range.parameter("boundary").is_none_or(|boundary| boundary == "graphql")
}

/// Whether the client names the newer type. It then prefers that type at equal quality.
fn named(ranges: &[MediaRange]) -> bool {
    ranges.iter().any(|range| precision(range) == 2 && covers(range, MediaType::GraphqlResponse))
}

/// The weight of a range in thousandths. A weight that is not a number is ignored.
fn quality(range: &MediaRange) -> u16 {
    if !range.is_utf8() {
        return 0;
    }
    let weight = range.parameter("q").and_then(|value| value.parse().ok()).unwrap_or(1.0_f32);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let thousandths = (weight.clamp(0.0, 1.0) * 1_000.0) as u16;
    thousandths
}

fn precision(range: &MediaRange) -> u8 {
    u8::from(range.kind != "*") + u8::from(range.subtype != "*")
}

fn covers(range: &MediaRange, media: MediaType) -> bool {
    let (kind, subtype) = media.essence();
    (range.kind == "*" || range.kind == kind) && (range.subtype == "*" || range.subtype == subtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_gets_what_it_likes_best() {
        use MediaType::{GraphqlResponse, Json};
        for (accept, wanted) in [
            ("*/*", Some(Json)),
            ("application/*", Some(Json)),
            ("application/json", Some(Json)),
            ("application/graphql-response+json", Some(GraphqlResponse)),
            (
                "application/graphql-response+json; charset=utf-8, application/json; charset=utf-8",
                Some(GraphqlResponse),
            ),
            ("application/json, application/graphql-response+json", Some(GraphqlResponse)),
            ("application/json;q=1, application/graphql-response+json;q=0.9", Some(Json)),
            ("application/graphql-response+json;q=0, */*", Some(Json)),
            ("text/html, */*;q=0.1", Some(Json)),
            ("text/html", None),
            ("application/json;q=0", None),
            ("application/json;charset=utf-16", None),
            // Empty parameters, and parameters without a value, change nothing.
            ("application/json;", Some(Json)),
            ("*/*;", Some(Json)),
            ("application/json; ;q=0.9", Some(Json)),
            ("application/json;v", Some(Json)),
            ("application/json; charset=utf8", Some(Json)),
            (
                "application/graphql-response+json ; q=0.9;,application/json;q=0.8",
                Some(GraphqlResponse),
            ),
            ("application/json;profile=\"a,b;q=0\"", Some(Json)),
            ("application/json;q=high", Some(Json)),
            // What is no media range is no preference.
            ("nonsense", Some(Json)),
            ("", Some(Json)),
            (",", Some(Json)),
            ("nonsense, text/html", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(negotiate(&headers), wanted, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new()), Some(Json));
    }

    #[test]
    fn a_stream_needs_the_clients_explicit_consent() {
        use StreamFormat::{Events, Multipart};
        for (accept, format) in [
            ("*/*", None),
            ("text/*, multipart/*", None),
            ("multipart/mixed", None),
            ("text/event-stream;q=0", None),
            ("application/json, text/event-stream", Some(Events)),
            ("multipart/mixed;boundary=graphql;subscriptionSpec=1.0", Some(Multipart)),
            ("multipart/mixed; boundary=graphql; subscriptionSpec=1.0;, */*", Some(Multipart)),
            ("multipart/mixed;subscriptionSpec=1.0;q=0, */*", None),
            ("multipart/mixed;deferSpec=20220824, application/json", None),
            ("multipart/mixed;subscriptionSpec=1.0, text/event-stream;", Some(Events)),
            (
                "multipart/mixed;boundary=\"graphql\";subscriptionSpec=\"1.0\",application/json;q=0.9",
                Some(Multipart),
            ),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(stream_format(&headers), format, "{accept}");
        }
    }
}
