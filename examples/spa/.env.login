# The app with a real login: npm run start:login. These values fit provider.mjs; README.md has those
# of other providers.
VITE_OIDC_AUTHORITY=http://127.0.0.1:5556
VITE_OIDC_CLIENT_ID=spa
VITE_OIDC_SCOPE=openid profile email offline_access
VITE_OIDC_AUDIENCE=http://127.0.0.1:4000
