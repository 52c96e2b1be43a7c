-- The check of a certificate-bound token in nginx, for the comparison: signature (ES256,
-- by OpenSSL), issuer, audience, end and binding. What was verified is remembered, in each
-- worker, and so is the thumbprint of a certificate.
local ffi = require "ffi"
local base64 = require "ngx.base64"
local json = require "cjson.safe"
local lrucache = require "resty.lrucache"
local crypto = ffi.load("libcrypto.so.3")

ffi.cdef [[
typedef struct bio_st BIO;
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_md_st EVP_MD;
typedef struct evp_md_ctx_st EVP_MD_CTX;
BIO *BIO_new_mem_buf(const void *buf, int len);
int BIO_free(BIO *a);
EVP_PKEY *PEM_read_bio_PUBKEY(BIO *bp, EVP_PKEY **x, void *cb, void *u);
const EVP_MD *EVP_sha256(void);
EVP_MD_CTX *EVP_MD_CTX_new(void);
void EVP_MD_CTX_free(EVP_MD_CTX *ctx);
int EVP_DigestVerifyInit(EVP_MD_CTX *ctx, void **pctx, const EVP_MD *type, void *e, EVP_PKEY *pkey);
int EVP_DigestVerify(EVP_MD_CTX *ctx, const unsigned char *sig, size_t siglen, const unsigned char *tbs, size_t tbslen);
unsigned char *SHA256(const unsigned char *d, size_t n, unsigned char *md);
]]

local M = {}
local key, issuer, audience
local tokens = lrucache.new(10000)
local thumbprints = lrucache.new(1000)
local digest = ffi.new("unsigned char[32]")

function M.init(file, iss, aud)
    local f = assert(io.open(file))
    local pem = f:read("*a")
    f:close()
    local bio = crypto.BIO_new_mem_buf(pem, #pem)
    key = crypto.PEM_read_bio_PUBKEY(bio, nil, nil, nil)
    crypto.BIO_free(bio)
    assert(key ~= nil, "no public key in " .. file)
    issuer, audience = iss, aud
end

-- The signature of JWS is r and s side by side; OpenSSL wants the DER of both.
local function integer(s)
    s = s:gsub("^%z+", "")
    if s == "" or s:byte(1) >= 0x80 then
        s = "\0" .. s
    end
    return "\2" .. string.char(#s) .. s
end

local function verify(token)
    local head, payload, signature = token:match("^([%w_-]+)%.([%w_-]+)%.([%w_-]+)$")
    if not head then
        return nil
    end
    local header = json.decode(base64.decode_base64url(head) or "")
    if type(header) ~= "table" or header.alg ~= "ES256" or header.typ ~= "at+jwt" or header.kid ~= "k1" then
        return nil
    end
    local sig = base64.decode_base64url(signature)
    if not sig or #sig ~= 64 then
        return nil
    end
    local der = integer(sig:sub(1, 32)) .. integer(sig:sub(33))
    der = "\48" .. string.char(#der) .. der
    local signed = head .. "." .. payload
    local ctx = crypto.EVP_MD_CTX_new()
    local ok = crypto.EVP_DigestVerifyInit(ctx, nil, crypto.EVP_sha256(), nil, key) == 1
        and crypto.EVP_DigestVerify(ctx, der, #der, signed, #signed) == 1
    crypto.EVP_MD_CTX_free(ctx)
    if not ok then
        return nil
    end
    local claims = json.decode(base64.decode_base64url(payload) or "")
    if type(claims) ~= "table" or claims.iss ~= issuer or claims.aud ~= audience
        or type(claims.exp) ~= "number" or type(claims.cnf) ~= "table" then
        return nil
    end
    return { exp = claims.exp, bound = claims.cnf["x5t#S256"] }
end

local function thumbprint(pem)
    local known = thumbprints:get(pem)
    if known then
        return known
    end
    local der = ngx.decode_base64((pem:gsub("%-%-%-%-%-[^\n]*", ""):gsub("%s", "")))
    if not der then
        return nil
    end
    crypto.SHA256(der, #der, digest)
    known = base64.encode_base64url(ffi.string(digest, 32))
    thumbprints:set(pem, known)
    return known
end

function M.access()
    local field, pem = ngx.var.http_authorization, ngx.var.ssl_client_raw_cert
    local token = field and field:match("^Bearer (.+)$")
    if not token or not pem or pem == "" then
        return ngx.exit(401)
    end
    local t = tokens:get(token)
    if not t then
        t = verify(token)
        if not t then
            return ngx.exit(401)
        end
        tokens:set(token, t)
    end
    if t.exp <= ngx.time() or not t.bound or t.bound ~= thumbprint(pem) then
        return ngx.exit(401)
    end
end

return M
