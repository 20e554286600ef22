"""RoomService through the Python server SDK and raw JSON, by gateways of other regions."""

from __future__ import annotations

import secrets
from typing import Any

from livekit import api as livekit_api

from lab.api import Api
from lab.party import Party
from lab.watch import everybody_receives, happens, until


async def test_room_service_by_the_server_sdk(party: Party, api: Api) -> None:
    rooms = api.rooms("ap")
    created = await rooms.create_room(
        livekit_api.CreateRoomRequest(name=party.room, empty_timeout=60, metadata="about it")
    )
    assert created.name == party.room and created.sid.startswith("RM_")
    again = await api.rooms("us").create_room(livekit_api.CreateRoomRequest(name=party.room))
    assert again.sid == created.sid, "one name, two rooms"

    tab, python = await party.tab("tab"), await party.python("py")
    for client in (tab, python):
        await party.join(client, "eu")
        await client.publish()
    await everybody_receives([tab, python])

    async def listed() -> str | None:
        listing = (await rooms.list_rooms(livekit_api.ListRoomsRequest(names=[party.room]))).rooms
        counts = [(room.name, room.sid, room.num_participants) for room in listing]
        wanted = [(party.room, created.sid, 2)]
        return None if counts == wanted else f"listed as {counts}"

    await until("the room in the list", listed, 8)
    names = {r.name for r in (await rooms.list_rooms(livekit_api.ListRoomsRequest())).rooms}
    assert party.room in names

    listing = await rooms.list_participants(livekit_api.ListParticipantsRequest(room=party.room))
    assert sorted(p.identity for p in listing.participants) == ["py", "tab"]
    person = await rooms.get_participant(
        livekit_api.RoomParticipantIdentity(room=party.room, identity="py")
    )
    sources = {track.source: track.sid for track in person.tracks}
    assert len(sources) == 2 and person.sid.startswith("PA_")

    camera = sources[livekit_api.TrackSource.CAMERA]
    muted = await rooms.mute_published_track(
        livekit_api.MuteRoomTrackRequest(
            room=party.room, identity="py", track_sid=camera, muted=True
        )
    )
    assert muted.track.muted
    await happens(tab, "track_muted", stream="py/camera")

    await rooms.send_data(
        livekit_api.SendDataRequest(
            room=party.room, data=b"from the server", topic="news", destination_identities=["tab"]
        )
    )
    await happens(tab, "data", text="from the server", topic="news", sender="")
    assert not python.happened("data")

    await rooms.remove_participant(
        livekit_api.RoomParticipantIdentity(room=party.room, identity="py")
    )
    await happens(python, "disconnected", reason="PARTICIPANT_REMOVED")
    await happens(tab, "participant_disconnected", identity="py")

    await rooms.delete_room(livekit_api.DeleteRoomRequest(room=party.room))
    await happens(tab, "disconnected", reason="5")  # ROOM_DELETED
    listing = await rooms.list_rooms(livekit_api.ListRoomsRequest(names=[party.room]))
    assert not listing.rooms


async def test_room_service_by_raw_json(party: Party, api: Api) -> None:
    create = api.token(roomCreate=True)
    # Both spellings of a field, a number as text, an unknown field.
    body = {"name": party.room, "emptyTimeout": "60", "max_participants": 7, "later": 1}
    status, room = await api.raw("CreateRoom", body, create, "us")
    assert (status, room["name"]) == (200, party.room), room
    assert room.get("empty_timeout", room.get("emptyTimeout")) == 60
    assert room.get("max_participants", room.get("maxParticipants")) == 7

    admin = api.token(party.room, roomAdmin=True)
    python = await party.python("py")
    await party.join(python, "eu")
    await python.publish()
    status, listing = await api.raw("ListParticipants", {"room": party.room}, admin, "ap")
    assert status == 200 and [p["identity"] for p in listing["participants"]] == ["py"]
    status, listing = await api.raw(
        "ListRooms", {"names": [party.room]}, api.token(roomList=True), "ap"
    )
    assert status == 200 and [r["name"] for r in listing["rooms"]] == [party.room]

    nobody = {"room": party.room, "identity": "nobody"}
    table: list[tuple[str, Any, str, int, str]] = [
        ("GetParticipant", nobody, admin, 404, "not_found"),
        ("RemoveParticipant", nobody, admin, 404, "not_found"),
        ("DeleteRoom", {"room": f"none-{secrets.token_hex(4)}"}, create, 404, "not_found"),
        ("CreateRoom", b"{", create, 400, "malformed"),
        ("CreateRoom", b"[]", create, 400, "malformed"),
        ("NoSuchMethod", {}, create, 404, "bad_route"),
    ]
    for method, body, token, wanted, code in table:
        status, answer = await api.raw(method, body, token, "ap")
        assert (status, answer["code"]) == (wanted, code), f"{method} {body!r}: {status} {answer}"
    status, _ = await api.raw("DeleteRoom", {"room": party.room}, create, "us")
    assert status == 200
    await happens(python, "disconnected", reason="ROOM_DELETED")
