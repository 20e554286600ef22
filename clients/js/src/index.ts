export { FallbackRoom, type FallbackConnectOptions, type FallbackRoomOptions } from './room.ts';
export { endpoint, type EndpointOptions, type Source, type Servers, type Where } from './source.ts';
export { type RaceOptions } from './race.ts';
export { type WatchOptions } from './watch.ts';
