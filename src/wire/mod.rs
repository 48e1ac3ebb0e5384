//! The documents that the admin API takes and gives, and how one that came is read. The command reads the same types, so the two cannot drift apart.

mod advise;
mod catalog;
mod check;
mod keys;
mod read;
mod status;
mod transfer;
mod unusual;
mod usage;

pub use advise::{AdviceList, AdviceView};
pub use catalog::{FieldChangeView, FunctionBody, FunctionList, FunctionView, HistoryPage, HistoryView, RestrictBody};
pub use check::{CheckLine, CheckPartView, CheckReportView, CheckpointView, HeadView, ProgressView};
pub use keys::{
    BulkAction, BulkBody, BulkView, CheckView, CopyBody, CreateBody, ExplainBody, ExplainView, IdentifyBody, IdentifyView, KeyPage,
    KeyView, MadeView, RevokeBody, RotateBody, SecretState, SecretView,
};
pub use status::{AdminStatus, CountryDbStatus, FlushStatus, FunctionCounts, KeyCounts, Problem, StatusView, StoreStatus, VerifyStatus};
pub use transfer::{GeneratedView, ImportView, KeyLine, SecretLine};
pub use unusual::{FindingView, TooYoung, UnusualView, YoungKey};
pub use usage::{CountryView, DenialList, DenialView, Interval, Period, RecentNetwork, UsageRow, UsageView};

pub use keys::{BulkFields, CreateFields, PatchFields};
pub use read::{BadDocument, parse};
pub use transfer::LineFields;
