"""Parameter server: A lives in shards at servers, Δ travels as pushes (Li et al., OSDI 2014; Petuum's Bösen)."""
