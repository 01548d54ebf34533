-- The token of the grant under which this holder has its lock, if the fence tells.
local function granted_to(holder, fence)
  local length = fence and tonumber(sub(fence, 35, 37))
  return length and sub(fence, 39, 38 + length) == holder and tonumber(sub(fence, 18, 33)) or nil
end
