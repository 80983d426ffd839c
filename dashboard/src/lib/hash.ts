/** Where one is, as the hash says it: `#/service/shop/reviews?tab=tap`. Pure. */

export interface Place {
  page: string;
  rest: string[];
  query: Record<string, string>;
}

export function readHash(hash: string): Place {
  const [path = '', query = ''] = hash.replace(/^#?\/?/, '').split('?', 2);
  const [page, ...rest] = path.split('/').filter(Boolean).map(decode);
  return { page: page ?? 'now', rest, query: Object.fromEntries(new URLSearchParams(query)) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function hashOf(page: string, rest: string[] = [], query: Record<string, string | undefined> = {}): string {
  const said = Object.entries(query).filter((pair): pair is [string, string] => !!pair[1]);
  const text = new URLSearchParams(said).toString();
  return `#/${[page, ...rest].map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}
