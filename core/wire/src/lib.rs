//! Messages between Outlast's own programs and their bytes.
