/** Light or dark: what the machine says, unless somebody chose. */

export type Choice = 'auto' | 'light' | 'dark';

const KEY = 'tulle.theme';
const CHOICES: Choice[] = ['auto', 'light', 'dark'];

class Theme {
  choice = $state<Choice>(CHOICES.find((one) => one === read()) ?? 'auto');
  #system = matchMedia('(prefers-color-scheme: dark)');
  #dark = $state(this.#system.matches);

  constructor() {
    this.#system.addEventListener('change', () => (this.#dark = this.#system.matches));
    this.#apply();
  }

  get dark(): boolean {
    return this.choice === 'auto' ? this.#dark : this.choice === 'dark';
  }

  next() {
    this.choice = CHOICES[(CHOICES.indexOf(this.choice) + 1) % CHOICES.length] ?? 'auto';
    try {
      localStorage.setItem(KEY, this.choice);
    } catch {
      // It holds until the page is closed.
    }
    this.#apply();
  }

  #apply() {
    document.documentElement.dataset.theme = this.choice;
  }
}

function read(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export const theme = new Theme();

/** A colour of the style sheet by its name, for a canvas; it depends on `theme.dark`. */
export function colour(name: string): string {
  void theme.dark;
  const probe = document.createElement('i');
  probe.className = 'probe';
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
