// Chat: what was said in this page's lifetime.

import { byId, h, setText } from './dom.ts';

const MESSAGES_MAX = 200;

export class Chat {
  private unseen = 0;
  private readonly list = byId('messages');
  private readonly badge = byId('unread');

  /** `say` sends; it rejects when the message did not leave. */
  constructor(say: (text: string) => Promise<void>) {
    const input = byId<HTMLInputElement>('text');
    byId<HTMLFormElement>('say').addEventListener('submit', (event) => {
      event.preventDefault();
      const text = input.value.trim();
      if (text === '') return;
      input.value = '';
      say(text).then(
        () => this.add('you', text, true),
        () => {
          this.add('', 'Not sent: the room is reconnecting.', true);
          input.value = text;
        },
      );
    });
  }

  add(name: string, text: string, seen: boolean): void {
    const time = new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
    this.list.append(h('li', { class: name === 'you' ? 'own' : '' }, h('b', {}, name), h('time', {}, time), h('p', {}, text)));
    while (this.list.childElementCount > MESSAGES_MAX) this.list.firstElementChild?.remove();
    this.list.scrollTop = this.list.scrollHeight;
    this.unseen = seen ? 0 : this.unseen + 1;
    this.showBadge();
  }

  seen(): void {
    this.unseen = 0;
    this.showBadge();
    this.list.scrollTop = this.list.scrollHeight;
  }

  private showBadge(): void {
    this.badge.hidden = this.unseen === 0;
    setText(this.badge, this.unseen === 0 ? '' : ` ${this.unseen} new`);
  }
}
