package certsource

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"strings"
)

// Forward returns the fields that the proxy sends for a client with this certificate, as
// far as the preset reads them, under their usual names. It is for tests, and for those
// who look whether a forged field gets through. chain is left out where the proxy does
// not forward it. The presets without usual names send X-Client-Cert.
func (p Preset) Forward(leaf *x509.Certificate, chain ...*x509.Certificate) http.Header {
	for _, q := range presets() {
		if q.Name == p.Name {
			return q.forward(leaf, chain)
		}
	}
	return nil
}

func (p *preset) forward(leaf *x509.Certificate, chain []*x509.Certificate) http.Header {
	h := make(http.Header)
	all := [][]byte{leaf.Raw}
	for _, c := range chain {
		all = append(all, c.Raw)
	}
	sum := sha256.Sum256(leaf.Raw)
	field := p.Field
	if field == "" {
		field = "X-Client-Cert"
	}
	switch p {
	case &presetXFCC:
		h.Set(field, `By=spiffe://agora.example/edge;Hash=`+hex.EncodeToString(sum[:])+`;Cert="`+escape(encodePEM(all[:1]), "")+
			`";Chain="`+escape(encodePEM(all), "")+`";Subject="`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(leaf.Subject.String())+`"`)
		return h
	case &presetRFC9440:
		h.Set(field, encodeItem(all))
		for _, line := range encodeItems(all[1:]) {
			h.Add(p.ChainField, line)
		}
		return h
	case &presetHeaderSHA256:
		h.Set(field, hex.EncodeToString(sum[:]))
		return h
	case &presetAttributes:
		h.Set("X-SSL-Client-S-DN", leaf.Subject.String())
		return h
	}
	h.Set(field, p.form.encode(all))
	if p.ChainField != "" && len(chain) > 0 {
		for i, line := range p.list.encode(all[1:]) {
			name := p.ChainField
			if strings.HasSuffix(name, "-") {
				name += string(rune('0' + i%10))
			}
			h.Add(name, line)
		}
	}
	if p.VerifyField != "" {
		h.Set(p.VerifyField, p.good)
	}
	for _, f := range p.flags {
		h.Set(f.name, f.good)
	}
	if p.digest != "" {
		h.Set(p.digest, hex.EncodeToString(sum[:]))
	}
	return h
}

func encodeDER(ders [][]byte) string { return base64.StdEncoding.EncodeToString(ders[0]) }

func encodeQuotedDER(ders [][]byte) string { return `"` + encodeDER(ders) + `"` }

func encodeDERs(ders [][]byte) string {
	parts := make([]string, len(ders))
	for i := range ders {
		parts[i] = encodeDER(ders[i:])
	}
	return strings.Join(parts, ",")
}

func encodeConcatenatedDER(ders [][]byte) []string {
	return []string{base64.StdEncoding.EncodeToString(bytes.Join(ders, nil))}
}

func encodeItem(ders [][]byte) string { return ":" + encodeDER(ders) + ":" }

func encodeItems(ders [][]byte) []string {
	if len(ders) == 0 {
		return nil
	}
	parts := make([]string, len(ders))
	for i := range ders {
		parts[i] = encodeItem(ders[i:])
	}
	return []string{strings.Join(parts, ", ")}
}

func encodePEM(ders [][]byte) string {
	var b strings.Builder
	for _, der := range ders {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return b.String()
}

func encodeFoldedPEM(ders [][]byte) []string {
	lines := make([]string, len(ders))
	for i := range ders {
		lines[i] = strings.ReplaceAll(strings.TrimSpace(encodePEM(ders[i:i+1])), "\n", " ")
	}
	return lines
}

// escape percent-encodes all but the unreserved characters of RFC 3986 and those of safe.
func escape(s, safe string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(s) * 5 / 4)
	for i := range len(s) {
		c := s[i]
		if isLetter(c) || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 || strings.IndexByte(safe, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}
