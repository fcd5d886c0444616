// Where GraphiQL keeps tabs and history: in localStorage, but without the headers of a request, which may hold a token.

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
