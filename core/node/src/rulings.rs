//! Rulings: what the server API has last said of somebody's permission, and who is given which rights because of that.

use outlast_livekit::{self as proto, Message as _};
use outlast_model::{Identity, Ruling, RulingVersion, Time};
use outlast_token::{Claims, VideoGrant};

use crate::{
    door::{Join, Out, Told},
    join::{Refusal, permission},
    room::RoomKey,
    shard::Shard,
};

impl Shard {
    /// Gives somebody who joins the rights of the newest ruling instead of its token's, before anything else looks at them.
    ///
    /// # Errors
    /// When the ruling cannot be read: to let its identity in without it could allow what it forbids.
    pub(crate) fn inherit(
        &mut self,
        key: RoomKey,
        join: &mut Join,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        let Join { claims, request, ruling, .. } = join;
        let room = &mut self.rooms[key];
        let identity = claims.identity.clone();
        let version = claims.ruling;
        let in_token = (version > RulingVersion::default())
            .then(|| Ruling { version, permission: permission(claims).encode_to_vec().into() });
        let newest = room.stays.inherit(&identity, in_token, ruling.take());
        let Some((ruling, news)) = newest else { return Ok(()) };
        let Ok(ruled) = proto::ParticipantPermission::decode(&*ruling.permission) else {
            return Err(Refusal::new(500, "what the server API has ruled cannot be read"));
        };
        set_grant(&mut claims.video, &ruled);
        claims.ruling = ruling.version;
        if !ruled.can_update_metadata {
            request.metadata.clear();
            request.participant_attributes.clear();
        }
        if news {
            let room = room.name.clone();
            out.told.push(Told::Ruled { room, identity, ruling: Some(ruling) });
        }
        Ok(())
    }

    /// The server API replaces all permissions of an identity that is here. Gateways are told before anybody else is.
    pub(crate) fn rule(
        &mut self,
        key: RoomKey,
        identity: &Identity,
        ruled: &proto::ParticipantPermission,
        out: &mut Out,
    ) {
        let room = &mut self.rooms[key];
        let mut grant = VideoGrant::default();
        set_grant(&mut grant, ruled);
        let ruled = permission(&Claims { video: grant, ..Claims::default() });
        let bytes = ruled.encode_to_vec().into();
        let ruling = room.stays.rule(room.generation, identity, bytes);
        let version = ruling.version;
        let (name, identity) = (room.name.clone(), identity.clone());
        // A newer session that waits for its place takes it with these rights.
        let sessions = [room.members.get(&identity), room.successors.get(&identity)];
        let sessions: Vec<_> = sessions.into_iter().flatten().copied().collect();
        out.told.push(Told::Ruled { room: name, identity, ruling: Some(ruling) });
        for session in sessions {
            let claims = &mut self.participants[session].claims;
            set_grant(&mut claims.video, &ruled);
            claims.ruling = version;
            self.set_permission(session, ruled.clone(), out);
        }
    }

    /// The stay of an identity is over, unless another session of it is here: it comes back with the rights of its token.
    pub(crate) fn end_stay(&mut self, key: RoomKey, identity: &Identity, out: &mut Out) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        if room.has(identity) {
            return;
        }
        if room.stays.end(identity) {
            let (room, identity) = (room.name.clone(), identity.clone());
            out.told.push(Told::Ruled { room, identity, ruling: None });
        }
    }

    /// Ends the stays of those who have been away for too long.
    pub(crate) fn end_stays(&mut self, now: Time, key: RoomKey, out: &mut Out) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        let mut stays = std::mem::take(&mut room.stays);
        let overdue = stays.overdue(now, |identity| room.has(identity));
        room.stays = stays;
        for identity in overdue {
            self.end_stay(key, &identity, out);
        }
    }
}

/// Makes a grant say what a permission says, and no more: it is what tokens carry.
fn set_grant(grant: &mut VideoGrant, permission: &proto::ParticipantPermission) {
    let mut sources: Vec<String> = Vec::new();
    for source in &permission.can_publish_sources {
        let Ok(source) = proto::TrackSource::try_from(*source) else { continue };
        let name = source.as_str_name().to_ascii_lowercase();
        if !sources.contains(&name) {
            sources.push(name);
        }
    }
    // No source means all of them; a list that names none we know must not be widened to that.
    let unknown_only = sources.is_empty() && !permission.can_publish_sources.is_empty();
    grant.can_publish = Some(permission.can_publish && !unknown_only);
    grant.can_publish_sources = sources;
    grant.can_publish_data = Some(permission.can_publish_data);
    grant.can_subscribe = Some(permission.can_subscribe);
    grant.can_update_own_metadata = Some(permission.can_update_metadata);
    grant.can_subscribe_metrics = permission.can_subscribe_metrics;
    grant.can_manage_agent_session = permission.can_manage_agent_session;
    grant.hidden = permission.hidden;
    grant.recorder = permission.recorder;
    grant.agent = permission.agent;
}
