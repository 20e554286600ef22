// Light, dark, or what the system says; remembered where the browser lets us.

const THEMES = ['auto', 'light', 'dark'] as const;
const KEY = 'outlast.theme';

export function setUpTheme(button: HTMLButtonElement): void {
  let at = Math.max(0, THEMES.findIndex((theme) => theme === stored()));
  const show = () => {
    const theme = THEMES[at] ?? 'auto';
    if (theme === 'auto') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = theme;
    button.textContent = `◐ ${theme}`;
    button.setAttribute('aria-label', `Theme: ${theme}`);
    return theme;
  };
  button.addEventListener('click', () => {
    at = (at + 1) % THEMES.length;
    try {
      localStorage.setItem(KEY, show());
    } catch {
      // Private windows may refuse; the choice then lasts as long as the page.
    }
  });
  show();
}

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
