package jwks

// Public is public, for tests that dial nothing.
var Public = public
