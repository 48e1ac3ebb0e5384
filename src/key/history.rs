use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::{FunctionName, Instant, KeyId, PepperId};

/// One change, as the history keeps it for good. It never holds a secret or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Counts every change of the store from 1, without a gap.
    pub sequence: u64,
    /// When the change was made.
    pub at: Instant,
    /// Who made it.
    pub actor: Actor,
    /// What was done.
    pub action: Action,
    /// To what.
    pub subject: Subject,
    /// Field by field, what changed.
    pub changes: Vec<FieldChange>,
    /// Under which pepper's chain key the MAC was made.
    pub pepper: PepperId,
    /// HMAC-SHA-256(chain key, MAC of the entry before it, then this entry's other fields as they are stored).
    pub mac: [u8; 32],
}

/// Who made a change: the peer of the admin socket as the kernel tells it, and whom it says it acts for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Actor {
    /// The peer's user id.
    pub uid: u32,
    /// That user's name in the system's user database, if it has one.
    pub user: Option<String>,
    /// The `--as` of the change: said by the peer, not proved.
    #[serde(rename = "as")]
    pub on_behalf_of: Option<String>,
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A key was made.
    Create,
    /// Settings of a key changed.
    Edit,
    /// A key was switched on.
    Enable,
    /// A key was switched off.
    Disable,
    /// A key was made with the settings of another.
    Copy,
    /// A key got a new secret.
    Rotate,
    /// The overlap of a rotation was extended.
    RotateExtend,
    /// The overlap of a rotation was ended.
    RotateFinish,
    /// A rotation was taken back.
    RotateCancel,
    /// A secret was revoked.
    Revoke,
    /// A key was deleted.
    Delete,
    /// A deleted key came back.
    Undelete,
    /// A key was imported.
    Import,
    /// A function was registered.
    FunctionAdd,
    /// A function became restricted.
    FunctionRestrict,
    /// A function is restricted no more.
    FunctionUnrestrict,
    /// A function was removed.
    FunctionRemove,
}

impl Action {
    /// Every action, in the order of their numbers.
    pub const ALL: [Action; 17] = [
        Action::Create,
        Action::Edit,
        Action::Enable,
        Action::Disable,
        Action::Copy,
        Action::Rotate,
        Action::RotateExtend,
        Action::RotateFinish,
        Action::RotateCancel,
        Action::Revoke,
        Action::Delete,
        Action::Undelete,
        Action::Import,
        Action::FunctionAdd,
        Action::FunctionRestrict,
        Action::FunctionUnrestrict,
        Action::FunctionRemove,
    ];

    /// The name as every interface writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Edit => "edit",
            Action::Enable => "enable",
            Action::Disable => "disable",
            Action::Copy => "copy",
            Action::Rotate => "rotate",
            Action::RotateExtend => "rotate_extend",
            Action::RotateFinish => "rotate_finish",
            Action::RotateCancel => "rotate_cancel",
            Action::Revoke => "revoke",
            Action::Delete => "delete",
            Action::Undelete => "undelete",
            Action::Import => "import",
            Action::FunctionAdd => "function_add",
            Action::FunctionRestrict => "function_restrict",
            Action::FunctionUnrestrict => "function_unrestrict",
            Action::FunctionRemove => "function_remove",
        }
    }
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Subject {
    /// A key.
    Key(KeyId),
    /// A function of the catalog.
    Function(FunctionName),
}

/// A field before and after a change, each as JSON text; absent where the field did not exist.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FieldChange {
    /// The field as the interfaces name it; `secrets.2.retires_at` for a field of one secret.
    pub field: String,
    /// Its value before.
    pub before: Option<String>,
    /// Its value after.
    pub after: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_stands_at_its_number_under_its_name() {
        for (number, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!(action as usize, number);
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
        }
    }
}
