//! What the generator draws from: products, models and words as an AI service's log would hold them. Data alone.

/// A product and what its events look like.
pub(super) struct Product {
    pub(super) name: &'static str,
    /// The producing service.
    pub(super) source: &'static str,
    pub(super) operations: &'static [&'static str],
    pub(super) models: &'static [Model],
    /// Typical tokens of one call.
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    /// Whether its calls make content.
    pub(super) content: bool,
}

/// A model, its price and pace.
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) provider: &'static str,
    /// Micro-credits of an input token; an output token costs four times that.
    pub(super) micros_per_token: i64,
    pub(super) ms_per_100_tokens: i64,
    /// Integers of 10^-4 to draw from.
    pub(super) multipliers: &'static [Option<i32>],
}

const SWIFT: Model = Model {
    name: "swift-2",
    provider: "northwind",
    micros_per_token: 150,
    ms_per_100_tokens: 400,
    multipliers: &[None, Some(5_000), Some(10_000)],
};
const SAGE: Model = Model {
    name: "sage-4",
    provider: "northwind",
    micros_per_token: 900,
    ms_per_100_tokens: 1_500,
    multipliers: &[Some(10_000), Some(10_000), Some(15_000), Some(20_000)],
};
const ORCA: Model = Model {
    name: "orca-mini",
    provider: "bluewater",
    micros_per_token: 90,
    ms_per_100_tokens: 250,
    multipliers: &[None, Some(2_500)],
};
const ATLAS: Model = Model {
    name: "atlas-70b",
    provider: "self-hosted",
    micros_per_token: 300,
    ms_per_100_tokens: 900,
    multipliers: &[Some(10_000)],
};
const PRISM: Model = Model {
    name: "prism-xl",
    provider: "bluewater",
    micros_per_token: 2_000,
    ms_per_100_tokens: 2_500,
    multipliers: &[Some(10_000), Some(30_000)],
};

const CHAT: Product = Product {
    name: "chat",
    source: "chat-api",
    operations: &["ask", "ask", "ask", "summarise", "translate"],
    models: &[SWIFT, SWIFT, SAGE, ORCA],
    input_tokens: 400,
    output_tokens: 250,
    content: false,
};
const WRITER: Product = Product {
    name: "writer",
    source: "writer",
    operations: &["draft", "rewrite", "shorten", "proofread"],
    models: &[SWIFT, SAGE],
    input_tokens: 600,
    output_tokens: 500,
    content: true,
};
const CODE: Product = Product {
    name: "code",
    source: "ide-plugin",
    operations: &["complete", "complete", "complete", "review", "explain"],
    models: &[ORCA, ATLAS, SAGE],
    input_tokens: 900,
    output_tokens: 120,
    content: false,
};
const IMAGES: Product = Product {
    name: "images",
    source: "studio",
    operations: &["generate", "generate", "upscale", "edit"],
    models: &[PRISM],
    input_tokens: 60,
    output_tokens: 800,
    content: true,
};
const AGENTS: Product = Product {
    name: "agents",
    source: "agent-runner",
    operations: &["plan", "step", "step", "step"],
    models: &[SAGE, ATLAS],
    input_tokens: 2_500,
    output_tokens: 400,
    content: false,
};

/// By their share of the calls.
pub(super) const PRODUCTS: &[&Product] =
    &[&CHAT, &CHAT, &CHAT, &CHAT, &CODE, &CODE, &CODE, &WRITER, &WRITER, &IMAGES, &AGENTS];

/// What calls are for.
pub(super) const CATEGORIES: &[&str] = &["support", "marketing", "engineering", "research", "operations"];
/// Finer than the operation.
pub(super) const DETAILS: &[&str] = &["formal", "short", "with-sources", "bulk"];
/// A user's department goes by the user's number.
pub(super) const DEPARTMENTS: &[&str] = &["sales", "engineering", "marketing", "support", "finance"];
