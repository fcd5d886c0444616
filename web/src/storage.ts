// GraphiQL's storage for tabs and history: localStorage, without the headers of requests, which may
// hold a token.

export const storage = {
  getItem: (key: string) => localStorage.getItem(key),
  removeItem: (key: string) => localStorage.removeItem(key),
  clear: () => localStorage.clear(),
  get length() {
    return localStorage.length;
  },
  setItem(key: string, value: string) {
    const history = /:(queries|favorites)$/.test(key);
    localStorage.setItem(key, history ? JSON.stringify(JSON.parse(value), withoutHeaders) : value);
  },
};

const withoutHeaders = (name: string, value: unknown) => (name === 'headers' ? undefined : value);
