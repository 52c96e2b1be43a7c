// Package revocation says whether the certificates of a valid path are revoked, from
// CRLs (RFC 5280, Section 5) and OCSP (RFC 6960).
package revocation
